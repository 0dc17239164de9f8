"""CUDA's driver of a machine with one GPU, FARM_TEST_GPU: `NVIDIA H200, 9.0`."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Any


class CUresult(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_NO_DEVICE = 100


class CUdevice_attribute(IntEnum):
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76


OK = CUresult.CUDA_SUCCESS


def _gpu() -> tuple[str, str]:
    name, _, capability = os.environ["FARM_TEST_GPU"].partition(", ")
    return name, capability


def cuInit(flags: int) -> tuple[Any, ...]:
    if "FARM_TEST_GPU" not in os.environ:  # as cuda-bindings without a driver
        raise RuntimeError("Failed to dlopen libcuda.so.1")
    return (OK if _gpu()[0] else CUresult.CUDA_ERROR_NO_DEVICE,)


def cuDriverGetVersion() -> tuple[Any, ...]:
    return OK, 13000


def cuDeviceGetCount() -> tuple[Any, ...]:
    return OK, 1


def cuDeviceGet(index: int) -> tuple[Any, ...]:
    return OK, index


def cuDeviceGetName(size: int, device: int) -> tuple[Any, ...]:
    return OK, _gpu()[0].encode().ljust(size, b"\0")


def cuDeviceGetAttribute(kind: CUdevice_attribute, device: int) -> tuple[Any, ...]:
    major, minor = map(int, _gpu()[1].split("."))
    return OK, major if kind.name.endswith("MAJOR") else minor


def cuDeviceTotalMem(device: int) -> tuple[Any, ...]:
    return OK, 1 << 30
