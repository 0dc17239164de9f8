"""ONNX Runtime's TensorRT provider: it builds engines of the parts that TensorRT can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.runtimes.base import Runtime
from farm.runtimes.onnxruntime.options import TensorRtProviderOptions

if TYPE_CHECKING:
    from farm.runtimes.base import EngineAdapter


def _adapter() -> EngineAdapter:
    from farm.runtimes.onnxruntime import tensorrt

    return tensorrt


RUNTIME = Runtime(
    name="onnxruntime_tensorrt",
    short="ORT TRT",
    packages=("onnxruntime-gpu", "tensorrt"),
    engines=_adapter,
    needs=("cuda-bindings>=12.6", "onnxruntime-gpu[cuda,cudnn]", "nvidia-ml-py>=12"),
    options=TensorRtProviderOptions,
    workspaces=True,
    precisions=("fp32", "fp16", "bf16", "int8"),
    builder_flags=True,
    by_flag=("bf16",),  # ONNX Runtime reads no bf16 Conv below opset 22
    accelerators=True,
    profiles=True,
    simplified_dynamic=False,
)
