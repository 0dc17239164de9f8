"""TensorRT and TensorRT-RTX on NVIDIA GPUs: one adapter for two libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import TransientFailure
from farm.runtimes.tensorrt import builder, cuda, session

if TYPE_CHECKING:
    from farm.specs import EngineOptions


@dataclass(frozen=True)
class Adapter:
    """Builds and opens engines with one of the libraries.

    title: as people write it. bindings: imports its Python module. extra: of the farm's package,
    which installs it. ahead_of_time: it builds engines with no GPU there.
    """

    title: str
    bindings: Callable[[], Any]
    extra: str
    ahead_of_time: bool

    def build(self, onnx: Path, folder: Path, options: EngineOptions) -> None:
        """Leave `engine.plan`, and `engine.json` about it.

        Raises:
            StepFailed: the library cannot build this file with these options.
            TransientFailure: no library or no usable GPU here, or its memory ran out.
        """
        if not self.ahead_of_time:
            cuda.gpus()  # without a GPU the library crashes the process
        builder.build(self._library(), onnx, folder, options)

    def open_engine(
        self, folder: Path, options: EngineOptions, threads: int
    ) -> session.TensorRtSession:
        """Open the engine in `folder`; the host's threads play no part.

        Raises:
            StepFailed: the folder holds no engine of this adapter, or one that does not load.
            TransientFailure: no library here, or not the engine's GPU, version or memory.
        """
        cuda.gpus()
        return session.open_engine(self._library(), folder, options)

    def _library(self) -> Any:
        try:
            return self.bindings()
        except (ImportError, OSError) as error:
            raise TransientFailure(
                f"{self.title} is not installed here ({error}): pip install -e '.[{self.extra}]'"
            ) from None


def _tensorrt() -> Any:
    import tensorrt

    return tensorrt


def _rtx() -> Any:
    import tensorrt_rtx_bindings

    return tensorrt_rtx_bindings


TENSORRT = Adapter("TensorRT", _tensorrt, "tensorrt", ahead_of_time=False)
RTX = Adapter("TensorRT-RTX", _rtx, "tensorrt_rtx", ahead_of_time=True)
