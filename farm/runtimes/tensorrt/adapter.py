"""TensorRT on NVIDIA GPUs: 8.6, 10 and 11 alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.errors import TransientFailure
from farm.runtimes.tensorrt import builder, cuda, session

if TYPE_CHECKING:
    from farm.specs import EngineOptions


def build(onnx: Path, folder: Path, options: EngineOptions) -> None:
    """Leave `engine.plan` for the GPU that is there, and `engine.json` about it."""
    builder.build(_library(), onnx, folder, options)


def open_engine(folder: Path, options: EngineOptions, threads: int) -> session.TensorRtSession:
    return session.open_engine(_library(), folder, options)


def _library() -> Any:
    """Only where the driver shows a GPU: without one, TensorRT crashes the process."""
    cuda.gpus()
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise TransientFailure(
            f"TensorRT is not installed here ({error}): pip install -e '.[tensorrt]'"
        ) from None
    return tensorrt
