"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.runtimes.base import Finding, Runtime, install_extra

if TYPE_CHECKING:
    from farm.runtimes.base import EngineAdapter


def _adapter() -> EngineAdapter:
    from farm.runtimes.openvino import adapter

    return adapter


def _probe() -> Finding:
    from farm.runtimes.openvino import probe

    return probe.probe()


RUNTIME = Runtime(
    name="openvino",
    short="OV",
    title="OpenVINO",
    packages=("openvino",),
    engines=_adapter,
    probe=_probe,
    install=install_extra("openvino"),
    precisions=("fp32", "fp16", "bf16", "int8"),
)
