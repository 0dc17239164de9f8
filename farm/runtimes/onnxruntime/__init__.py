"""ONNX Runtime on the CPU; its providers for NVIDIA GPUs, which share the folder, are runtimes of
their own: `farm.runtimes.onnxruntime_cuda` and `farm.runtimes.onnxruntime_tensorrt`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.runtimes.base import Finding, Runtime, install_extra

if TYPE_CHECKING:
    from farm.runtimes.base import EngineAdapter


def _adapter() -> EngineAdapter:
    from farm.runtimes.onnxruntime import cpu

    return cpu


def _probe() -> Finding:
    from farm.runtimes.onnxruntime import probe

    return probe.probe()


RUNTIME = Runtime(
    name="onnxruntime",
    short="ORT",
    title="ONNX Runtime",
    packages=("onnxruntime",),
    engines=_adapter,
    probe=_probe,
    install=f"{install_extra('onnxruntime')} (with an NVIDIA GPU: gpu in place of onnxruntime)",
    precisions=("fp32", "fp16", "bf16", "int8"),
    portable=True,
)
