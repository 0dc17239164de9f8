"""Whether OpenVINO works here."""

from __future__ import annotations

from importlib.metadata import version

from farm.runtimes.base import Finding


def probe() -> Finding:
    """Ask it for its devices, and whether it would run fp32 models in bf16."""
    import openvino

    core = openvino.Core()
    found = f"{version('openvino')}; devices: {', '.join(core.available_devices)}"
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        found += ". It would run fp32 models in bf16 on this CPU; the farm tells it not to"
    return Finding("openvino", "ok", found)
