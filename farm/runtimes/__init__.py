"""Runtimes: what runs a model. One file each; `farm.catalog.RUNTIMES` has one line for each.

A runtime's module imports its own library and numpy, and provides

    build(onnx, folder, options)            leave an engine in `folder` (if it builds at all);
                                            figures of its own for the record (a mapping), or None
    open_engine(folder, options, threads)   a Session on what `build` left there

`torch` runs a module instead: `open_module(module, threads)`.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from farm.catalog import RUNTIMES

Array = npt.NDArray[Any]


class Session(Protocol):
    """An engine ready to run."""

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, Array]:
        """images: float32 [N, 3, H, W], C-contiguous, as prepared.

        Returns `dets` float32 [N, K, 5] (x1 y1 x2 y2 score, network pixels), `labels`
        [N, K] (-1 for empty rows) and, for mask models, `masks` float32 [N, K, m, m]; a graph
        that ends earlier, what that has. The arrays are the caller's own.
        """

    def close(self) -> None: ...


@runtime_checkable
class Graphed(Protocol):
    """A session that may have its work captured as one CUDA graph."""

    @property
    def uses_cuda_graph(self) -> bool: ...


@runtime_checkable
class DeviceTimed(Protocol):
    """A session that knows how long its accelerator alone took."""

    def device_time_ms(self) -> float:
        """Of the last run: without copies, and without what the host does before and after."""


def runtime_module(name: str) -> Any:
    """The module of a runtime; imports its library."""
    return importlib.import_module(RUNTIMES[name].module)
