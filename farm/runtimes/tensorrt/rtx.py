"""TensorRT-RTX on NVIDIA GPUs: engines are built with no GPU there, and run where one fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import TransientFailure
from farm.runtimes.tensorrt import builder, cuda, session

if TYPE_CHECKING:
    from farm.specs import EngineOptions


def build(onnx: Path, folder: Path, options: EngineOptions) -> None:
    """Leave `engine.plan` for `options.compute_capability`, and `engine.json` about it."""
    builder.build(_library(), onnx, folder, options)


def open_engine(folder: Path, options: EngineOptions, threads: int) -> session.TensorRtSession:
    cuda.gpus()  # without a GPU the library crashes the process
    return session.open_engine(_library(), folder, options)


def _library() -> Any:
    try:
        import tensorrt_rtx_bindings
    except (ImportError, OSError) as error:
        raise TransientFailure(
            f"TensorRT-RTX is not installed here ({error}): pip install -e '.[tensorrt_rtx]'"
        ) from None
    return tensorrt_rtx_bindings
