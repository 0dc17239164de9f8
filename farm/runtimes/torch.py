"""PyTorch itself: the module that the exporter traces, run eagerly. It builds nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_NAMES = ("dets", "labels", "masks", "mask_scores")


def open_module(module: torch.nn.Module, threads: int) -> TorchSession:
    torch.set_num_threads(threads)
    return TorchSession(module)


class TorchSession:
    def __init__(self, module: torch.nn.Module) -> None:
        self._module: torch.nn.Module | None = module.eval()

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        assert self._module is not None
        with torch.inference_mode():
            values = self._module(torch.from_numpy(images))
        return {name: value.numpy() for name, value in zip(_NAMES, values, strict=False)}

    def close(self) -> None:
        self._module = None
