"""TensorRT-RTX on NVIDIA GPUs: engines are built with no GPU there, and run where one fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.findings import Finding, extra
from farm.runtimes.base import Runtime
from farm.runtimes.tensorrt.options import RtxOptions

if TYPE_CHECKING:
    from farm.runtimes.base import EngineAdapter


def _adapter() -> EngineAdapter:
    from farm.runtimes.tensorrt import rtx

    return rtx


def _probe() -> Finding:
    from farm.runtimes.tensorrt.probe import tensorrt_rtx

    return tensorrt_rtx()


RUNTIME = Runtime(
    name="tensorrt_rtx",
    short="RTX",
    packages=("tensorrt-rtx-cu13-bindings",),
    engines=_adapter,
    options=RtxOptions,
    probe=_probe,
    install=f"{extra('tensorrt_rtx')} (builds on any machine)",
    workspaces=True,
    precisions=("fp32", "fp16", "bf16", "int8"),
    accelerators=True,
    profiles=True,
    simplified_dynamic=False,
    compute_capabilities=("7.5", "8.0", "8.6", "8.9", "12.0"),
    suppresses=False,
)
