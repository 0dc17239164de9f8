"""The NVIDIA GPUs of this machine, as the CUDA driver tells of them; needs no package."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Gpu:
    """name: `NVIDIA H200`; compute: `9.0`; driver: `580.95.05`; cuda: the driver's, `13.0`."""

    name: str
    compute: str
    driver: str
    cuda: str


@cache
def gpus() -> tuple[tuple[Gpu, ...], str | None]:
    """The GPUs, and where there is none why. Makes no CUDA context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (), "there is no CUDA driver here (libcuda.so.1)"
    if code := driver.cuInit(0):
        return (), f"the CUDA driver finds no GPU (cuInit gives error {code})"
    count, version = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    driver.cuDriverGetVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    found = tuple(_gpu(driver, number, cuda) for number in range(count.value))
    return found, None if found else "the CUDA driver finds no GPU"


def _gpu(driver: ctypes.CDLL, number: int, cuda: str) -> Gpu:
    name, major, minor = ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetName(name, len(name), number)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_MAJOR, number)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_MINOR, number)
    return Gpu(name.value.decode(), f"{major.value}.{minor.value}", _driver_version(), cuda)


def _driver_version() -> str:
    """`580.95.05`, of NVML or the kernel module; 'unknown' where neither tells."""
    text = ctypes.create_string_buffer(96)
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if not nvml.nvmlInit_v2() and not nvml.nvmlSystemGetDriverVersion(text, len(text)):
            return text.value.decode()
    except (OSError, AttributeError):
        pass
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return "unknown"
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown")
