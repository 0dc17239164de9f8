"""Does nothing: finds no box, in no time. For tests, and to measure what the farm itself costs.

It is also the shortest example of a runtime in one file: the descriptor, and an adapter whose
library (here numpy) is imported when it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.runtimes.base import Runtime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from farm.specs import EngineOptions


class NullAdapter:
    """Builds and opens engines that find nothing."""

    def build(self, onnx: Path, folder: Path, options: EngineOptions) -> None:
        """Leave a file."""
        (folder / "null.txt").write_text("nothing\n")

    def open_engine(self, folder: Path, options: EngineOptions, threads: int) -> NullSession:
        """Open a session; the folder is not read."""
        return NullSession()


class NullSession:
    """A session without boxes."""

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Return no boxes."""
        import numpy as np

        count = images.shape[0]
        return {
            "dets": np.zeros((count, 0, 5), np.float32),
            "labels": np.zeros((count, 0), np.int64),
        }

    def close(self) -> None:
        """Do nothing."""


RUNTIME = Runtime(name="null", engines=NullAdapter, postprocess=False)
