"""TensorRT (8.6, 10 and 11 alike) and TensorRT-RTX on NVIDIA GPUs.

`api` states what differs between the libraries and their versions; everything else is common.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from farm.runtimes.base import Finding, Runtime, install_extra
from farm.runtimes.tensorrt.options import RtxOptions, TensorRtOptions

if TYPE_CHECKING:
    from farm.runtimes.base import EngineAdapter


def _tensorrt() -> EngineAdapter:
    from farm.runtimes.tensorrt import adapter

    return adapter.TENSORRT


def _rtx() -> EngineAdapter:
    from farm.runtimes.tensorrt import adapter

    return adapter.RTX


def _probe_tensorrt() -> Finding:
    from farm.runtimes.tensorrt import probe

    return probe.tensorrt()


def _probe_rtx() -> Finding:
    from farm.runtimes.tensorrt import probe

    return probe.tensorrt_rtx()


RUNTIME = Runtime(
    name="tensorrt",
    short="TRT",
    packages=("tensorrt",),
    engines=_tensorrt,
    options=TensorRtOptions,
    probe=_probe_tensorrt,
    install=f"{install_extra('tensorrt')} (for NVIDIA GPUs only)",
    needs=("cuda-bindings>=12.6", "nvidia-ml-py>=12"),
    workspaces=True,
    precisions=("fp32", "fp16", "bf16", "int8"),
    builder_flags=True,
    accelerators=True,
    profiles=True,
    simplified_dynamic=False,
    max_opsets=(("8.", 17),),
)

RTX = replace(
    RUNTIME,
    name="tensorrt_rtx",
    short="RTX",
    packages=("tensorrt-rtx-cu13-bindings",),
    engines=_rtx,
    options=RtxOptions,
    probe=_probe_rtx,
    install=f"{install_extra('tensorrt_rtx')} (builds on any machine)",
    needs=("cuda-bindings>=12.6", "tensorrt-rtx-cu13-libs{release}", "nvidia-ml-py>=12"),
    builder_flags=False,
    max_opsets=(),
    compute_capabilities=("7.5", "8.0", "8.6", "8.9", "12.0"),
    suppresses=False,
)
"""It is always strongly typed, builds engines with no GPU there, and has no NonMaxSuppression."""
