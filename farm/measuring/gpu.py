"""The state of an NVIDIA GPU by NVML (nvidia-ml-py): clocks, power limit, throttling, MIG.

Nothing here fails a measurement: what cannot be read is None.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

log = logging.getLogger(__name__)

THROTTLING = {
    "GpuIdle": "idle",
    "ApplicationsClocksSetting": "application clocks",
    "SwPowerCap": "power cap",
    "HwSlowdown": "hardware slowdown",
    "SyncBoost": "sync boost",
    "SwThermalSlowdown": "heat",
    "HwThermalSlowdown": "heat (hardware)",
    "HwPowerBrakeSlowdown": "power brake",
    "DisplayClockSetting": "display clocks",
}
"""NVML's reasons for a lowered clock, by the constants `nvmlClocksThrottleReason...`."""


def gpu_figures() -> dict[str, Any]:
    """Return the figures of the first GPU that this process sees; {} without NVML or a GPU."""
    try:
        import pynvml
    except ImportError:
        log.debug("no figures of the GPU: nvidia-ml-py is not installed")
        return {}
    try:
        pynvml.nvmlInit()
    except Exception as error:  # of many kinds: no driver, another version, no right
        log.debug("no figures of the GPU: %s", error)
        return {}
    try:
        return figures_of(pynvml, first_uuid())
    except Exception as error:  # as above; figures are missing rather than the step
        log.debug("no figures of the GPU: %s", error)
        return {}
    finally:
        with suppress(Exception):  # there is nothing left to lose
            pynvml.nvmlShutdown()


def figures_of(nvml: Any, identity: str) -> dict[str, Any]:
    """Return the figures of the GPU, or of the MIG instance, with this UUID.

    nvml: the module `pynvml`, after `nvmlInit`. identity: without NVML's prefix `GPU-` or `MIG-`.

    Raises:
        nvml.NVMLError: there is no such GPU. Single figures that it does not tell are None.
    """

    def told(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except nvml.NVMLError:  # a model, a MIG instance or a driver without it
            return None

    device = device_of(nvml, identity)
    instance = device if told(lambda: nvml.nvmlDeviceIsMigDeviceHandle(device)) else None
    if instance is not None:  # clocks and power are those of the whole GPU
        device = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)
    watts = told(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(device) / 1000)
    reasons = told(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device))
    return {
        "gpu_sm_mhz": told(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM)),
        "gpu_memory_mhz": told(lambda: nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_MEM)),
        "gpu_power_limit_w": watts,
        "gpu_throttling": None if reasons is None else throttling(nvml, reasons),
        "gpu_temperature_c": told(
            lambda: nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
        ),
        "gpu_mig": "off" if instance is None else told(lambda: _profile(nvml, instance)),
    }


def throttling(nvml: Any, reasons: int) -> str:
    """Name the reasons of NVML's bit mask for a lowered clock; `none` for 0."""
    named = [
        words
        for name, words in THROTTLING.items()
        if reasons & getattr(nvml, f"nvmlClocksThrottleReason{name}", 0)
    ]
    return ", ".join(named) or ("none" if not reasons else f"unknown ({reasons:#x})")


def device_of(nvml: Any, identity: str) -> Any:
    """Return NVML's handle of the GPU or MIG instance with this UUID. Raises nvml.NVMLError."""
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{identity}")


def _profile(nvml: Any, instance: Any) -> str:
    """The profile of a MIG instance, `1g.10gb`, which ends its name."""
    name = nvml.nvmlDeviceGetName(instance)
    text = name.decode() if isinstance(name, bytes) else str(name)
    return text.rpartition("MIG ")[2]


def first_uuid() -> str:
    """Return the UUID of CUDA's first device: its order, unlike NVML's, is not that of the bus."""
    from cuda.bindings import driver

    # Before CUDA 13 the function without `_v2` knows no MIG instances.
    identify = getattr(driver, "cuDeviceGetUuid_v2", driver.cuDeviceGetUuid)
    driver.cuInit(0)
    _, device = driver.cuDeviceGet(0)
    _, identity = identify(device)
    return str(uuid.UUID(bytes=bytes(identity.bytes)))
