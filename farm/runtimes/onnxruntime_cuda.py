"""ONNX Runtime's CUDA provider: runs the ONNX file itself, node by node, on an NVIDIA GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.runtimes.base import Runtime
from farm.runtimes.onnxruntime.options import CudaOptions

if TYPE_CHECKING:
    from farm.runtimes.base import EngineAdapter


def _adapter() -> EngineAdapter:
    from farm.runtimes.onnxruntime import cuda

    return cuda


RUNTIME = Runtime(
    name="onnxruntime_cuda",
    short="ORT CUDA",
    packages=("onnxruntime-gpu",),
    engines=_adapter,
    needs=("cuda-bindings>=12.6", "onnxruntime-gpu[cuda,cudnn]", "nvidia-ml-py>=12"),
    options=CudaOptions,
    precisions=("fp32", "fp16"),
    accelerators=True,
    portable=True,
)
