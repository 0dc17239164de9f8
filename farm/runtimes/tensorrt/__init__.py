"""TensorRT on NVIDIA GPUs, 8.6, 10 and 11 alike; the adapter is TensorRT-RTX's, too.

`api` states what differs between versions; everything else is common. The folder imports numpy,
cuda-python, pydantic and the library itself, and of the farm only the errors and what describes a
runtime, so that it can be carried to a GPU machine on its own (Python 3.10 and later).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.findings import Finding, extra
from farm.runtimes.base import Runtime
from farm.runtimes.tensorrt.options import TensorRtOptions

if TYPE_CHECKING:
    from farm.runtimes.base import EngineAdapter


def _adapter() -> EngineAdapter:
    from farm.runtimes.tensorrt import adapter

    return adapter


def _probe() -> Finding:
    from farm.runtimes.tensorrt.probe import tensorrt

    return tensorrt()


RUNTIME = Runtime(
    name="tensorrt",
    short="TRT",
    packages=("tensorrt",),
    engines=_adapter,
    options=TensorRtOptions,
    probe=_probe,
    install=f"{extra('tensorrt')} (for NVIDIA GPUs only)",
    workspaces=True,
    precisions=("fp32", "fp16", "bf16", "int8"),
    builder_flags=True,
    accelerators=True,
    profiles=True,
    simplified_dynamic=False,
    max_opsets=(("8.", 17),),
)
