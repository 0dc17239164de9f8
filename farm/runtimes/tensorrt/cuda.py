"""The CUDA driver by way of cuda-python: which GPUs there are.

It imports anywhere. Only its calls need a GPU, and their errors name what is missing.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from farm.errors import StepFailed, TransientFailure
from farm.specs import Gpu as Gpu  # for the modules that use this one


class CudaError(TransientFailure):
    """An error of CUDA: it is about the state of the machine, not about the step."""


@cache
def bindings() -> tuple[Any, Any]:
    """Return cuda-python's modules of the driver's and the runtime's API.

    Raises:
        CudaError: cuda-python is not installed.
    """
    try:
        from cuda.bindings import driver, runtime

        return driver, runtime
    except ImportError:
        pass
    try:  # before 12.6
        from cuda import cuda, cudart

        return cuda, cudart
    except ImportError:
        raise CudaError("cuda-python is not installed: pip install cuda-python") from None


def call(result: tuple[Any, ...]) -> Any:
    """Return the value of a cuda-python call, whose result is (error, value...).

    Raises:
        CudaError: the call failed.
    """
    error, *values = result
    if int(error):
        raise CudaError(f"CUDA: {error.name}: {_text(error)}")
    return values[0] if len(values) == 1 else values or None


def _text(error: Any) -> str:
    driver, runtime = bindings()
    of_driver = isinstance(error, driver.CUresult)
    _, text = (driver.cuGetErrorString if of_driver else runtime.cudaGetErrorString)(error)
    return text.decode() if isinstance(text, bytes) else str(text)


# ---------------------------------------------------------------- GPUs and driver


@cache
def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that this process sees, at least one.

    This calls the driver, since TensorRT's Runtime crashes the process where there is no GPU.

    Raises:
        CudaError: there is none, or no driver, or one that is too old.
    """
    driver, runtime = bindings()
    try:
        status, *_ = driver.cuInit(0)
    except RuntimeError:  # libcuda.so.1 is not there
        raise CudaError("no NVIDIA GPU here: the driver (libcuda.so.1) is not installed") from None
    if int(status):
        raise CudaError(f"no NVIDIA GPU here: the driver says {status.name}: {_text(status)}")
    count = call(driver.cuDeviceGetCount())
    if not count:
        raise CudaError("no NVIDIA GPU here: the driver shows none (CUDA_VISIBLE_DEVICES?)")
    status, *_ = runtime.cudaGetDeviceCount()
    if int(status):  # cudaErrorInsufficientDriver
        needed = _cuda(call(runtime.cudaRuntimeGetVersion()))
        raise CudaError(
            f"the NVIDIA driver is too old: it supports CUDA {supported_version()}, cuda-python "
            f"needs {needed} ({_text(status)}): update the driver, or install an older cuda-python"
        )
    version = driver_version()
    return tuple(_gpu(driver, call(driver.cuDeviceGet(i)), version) for i in range(count))


def has_gpu() -> bool:
    """Whether the driver shows a GPU; False without a driver."""
    try:
        return bool(gpus())
    except CudaError:
        return False


def _gpu(driver: Any, device: Any, version: str) -> Gpu:
    name = call(driver.cuDeviceGetName(256, device)).split(b"\0")[0].decode()
    kinds = driver.CUdevice_attribute
    major, minor = (
        call(driver.cuDeviceGetAttribute(getattr(kinds, f"{_CAPABILITY}_{part}"), device))
        for part in ("MAJOR", "MINOR")
    )
    return Gpu(name, f"{major}.{minor}", version, int(call(driver.cuDeviceTotalMem(device))))


_CAPABILITY = "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY"


def supported_version() -> str:
    """Return the CUDA version that the driver supports, `13.0`, as `nvidia-smi` shows it.

    Raises:
        CudaError: there is no driver.
    """
    return _cuda(call(bindings()[0].cuDriverGetVersion()))


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def driver_version() -> str:
    """Return the driver's version, `580.95.05`, by NVML or the kernel module, else 'unknown'.

    cuda-python knows only the CUDA version of the driver.
    """
    text = ctypes.create_string_buffer(96)
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        if not nvml.nvmlInit_v2() and not nvml.nvmlSystemGetDriverVersion(text, len(text)):
            return text.value.decode()
    except (OSError, AttributeError):
        pass
    try:
        fields = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return "unknown"
    return next((one for one in fields if one[0].isdigit() and "." in one), "unknown")


def free_memory() -> int:
    """Return how many bytes are free on the current GPU."""
    free, _total = call(bindings()[1].cudaMemGetInfo())
    return int(free)


def require_memory(gpu: Gpu, workspace: int | None) -> None:
    """Check that the GPU has the workspace: TensorRT would silently build a slower engine.

    Raises:
        StepFailed: the GPU has less than the workspace.
        TransientFailure: it has less free memory now.
    """
    if workspace is None:
        return
    wanted, has = f"a workspace of {workspace / 2**30:.2f} GiB", gpu.memory_bytes / 2**30
    if workspace > gpu.memory_bytes:
        raise StepFailed(f"{wanted} is more than {gpu} has: {has:.2f} GiB")
    if workspace > (free := free_memory()):
        raise TransientFailure(
            f"no memory for {wanted}: {free / 2**30:.2f} GiB of {has:.2f} GiB are free on {gpu}"
        )
