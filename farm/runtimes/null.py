"""Does nothing: finds no box, in no time. For tests, and to measure what the farm itself costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from farm.specs import EngineOptions


def build(onnx: Path, folder: Path, options: EngineOptions) -> None:
    (folder / "null.txt").write_text("nothing\n")


def open_engine(folder: Path, options: EngineOptions, threads: int) -> NullSession:
    return NullSession()


class NullSession:
    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        count = images.shape[0]
        return {
            "dets": np.zeros((count, 0, 5), np.float32),
            "labels": np.zeros((count, 0), np.int64),
        }

    def close(self) -> None:
        pass
