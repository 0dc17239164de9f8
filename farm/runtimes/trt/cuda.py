"""The CUDA driver by way of cuda-python: which GPUs there are, memory, streams, events, graphs.

Imports anywhere; only a call needs a GPU, and says what is missing where there is none.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.errors import TransientFailure


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver tells it: `NVIDIA H200`, `9.0`, `580.95.05`."""

    name: str
    compute_capability: str
    driver: str
    memory_bytes: int

    @property
    def branch(self) -> str:
        """Of the driver: NVIDIA keeps engines compatible within one, and numbers it so."""
        return self.driver.partition(".")[0]

    def __str__(self) -> str:
        sm = self.compute_capability.replace(".", "")
        return f"{self.name} (sm{sm}, driver {self.branch})"


class CudaError(TransientFailure):
    """What CUDA itself answered; the state of a machine, not of the work asked of it."""


@cache
def bindings() -> tuple[Any, Any]:
    """cuda-python's modules of the driver's and the runtime's API. Raises CudaError."""
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
    """The value of a cuda-python call, which returns (error, value...). Raises CudaError."""
    error, *values = result
    if int(error):
        raise CudaError(f"CUDA: {error.name}: {_text(error)}")
    return values[0] if len(values) == 1 else values or None


def _text(error: Any) -> str:
    driver, runtime = bindings()
    of_driver = isinstance(error, driver.CUresult)
    _, text = (driver.cuGetErrorString if of_driver else runtime.cudaGetErrorString)(error)
    return text.decode() if isinstance(text, bytes) else str(text)


# ---------------------------------------------------------------- what there is


@cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process sees; at least one. Raises CudaError saying what is missing.

    TensorRT must not be asked: its Runtime crashes the process where there is none.
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
        there, needed = call(driver.cuDriverGetVersion()), call(runtime.cudaRuntimeGetVersion())
        raise CudaError(
            f"the NVIDIA driver is too old: it supports CUDA {_cuda(there)}, cuda-python needs "
            f"{_cuda(needed)} ({_text(status)}): update the driver, or install an older cuda-python"
        )
    version = driver_version()
    return tuple(_gpu(driver, call(driver.cuDeviceGet(i)), version) for i in range(count))


def _gpu(driver: Any, device: Any, version: str) -> Gpu:
    name = call(driver.cuDeviceGetName(256, device)).split(b"\0")[0].decode()
    kinds = driver.CUdevice_attribute
    major, minor = (
        call(driver.cuDeviceGetAttribute(getattr(kinds, f"{_CAPABILITY}_{part}"), device))
        for part in ("MAJOR", "MINOR")
    )
    return Gpu(name, f"{major}.{minor}", version, int(call(driver.cuDeviceTotalMem(device))))


_CAPABILITY = "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY"


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def driver_version() -> str:
    """`580.95.05`: as NVML says it, else the kernel module; 'unknown' where neither does.

    cuda-python knows the driver's CUDA version only.
    """
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


def free_memory() -> int:
    """Bytes free on the current GPU."""
    free, _total = call(bindings()[1].cudaMemGetInfo())
    return int(free)


# ---------------------------------------------------------------- memory


class DeviceMemory:
    """Memory of the GPU that grows to what is asked, and keeps its address while it need not."""

    def __init__(self) -> None:
        self.pointer, self.size = 0, 0

    def reserve(self, size: int) -> int:
        """The address of at least `size` bytes; never 0, as TensorRT takes no null address."""
        if size > self.size or not self.pointer:
            self.free()
            self.pointer = int(call(bindings()[1].cudaMalloc(max(size, 1))))
            self.size = size
        return self.pointer

    def free(self) -> None:
        if self.pointer:
            call(bindings()[1].cudaFree(self.pointer))
            self.pointer, self.size = 0, 0


class PinnedMemory:
    """Host memory that the GPU copies from and to without a detour; grows to what is asked."""

    def __init__(self) -> None:
        self._pointer, self._size = 0, 0

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array on this memory: valid until the next call."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if size > self._size:
            self.free()
            flags = bindings()[1].cudaHostAllocDefault
            self._pointer = int(call(bindings()[1].cudaHostAlloc(size, flags)))
            self._size = size
        if not size:
            return np.empty(shape, kind)
        raw = memoryview((ctypes.c_uint8 * size).from_address(self._pointer))
        return np.frombuffer(raw, kind).reshape(shape)

    def free(self) -> None:
        if self._pointer:
            call(bindings()[1].cudaFreeHost(self._pointer))
            self._pointer, self._size = 0, 0


# ---------------------------------------------------------------- streams


class Stream:
    """A stream, two events round the work of a run, and copies in its order."""

    def __init__(self) -> None:
        self._cuda = bindings()[1]
        self._stream = call(self._cuda.cudaStreamCreate())
        self._began, self._ended = (call(self._cuda.cudaEventCreate()) for _ in range(2))

    @property
    def handle(self) -> int:
        return int(self._stream)

    def to_device(self, pointer: int, array: npt.NDArray[Any]) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(pointer, array.ctypes.data, array.nbytes, kind)

    def to_host(self, array: npt.NDArray[Any], pointer: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, pointer, array.nbytes, kind)

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        if size:
            call(self._cuda.cudaMemcpyAsync(to, source, size, kind, self._stream))

    def begin(self) -> None:
        call(self._cuda.cudaEventRecord(self._began, self._stream))

    def end(self) -> None:
        call(self._cuda.cudaEventRecord(self._ended, self._stream))

    def elapsed_ms(self) -> float:
        """Between begin and end; after the stream was waited for."""
        return float(call(self._cuda.cudaEventElapsedTime(self._began, self._ended)))

    def wait(self) -> None:
        call(self._cuda.cudaStreamSynchronize(self._stream))

    def capture_begin(self) -> None:
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(self._cuda.cudaStreamBeginCapture(self._stream, mode))

    def capture_end(self) -> Graph:
        graph = call(self._cuda.cudaStreamEndCapture(self._stream))
        try:
            return Graph(call(self._cuda.cudaGraphInstantiate(graph, 0)), self._stream)
        finally:
            call(self._cuda.cudaGraphDestroy(graph))

    def free(self) -> None:
        for event in (self._began, self._ended):
            call(self._cuda.cudaEventDestroy(event))
        call(self._cuda.cudaStreamDestroy(self._stream))


class Graph:
    """What was captured on a stream, ready to be launched on it as one."""

    def __init__(self, executable: Any, stream: Any) -> None:
        self._executable, self._stream = executable, stream

    def launch(self) -> None:
        call(bindings()[1].cudaGraphLaunch(self._executable, self._stream))

    def free(self) -> None:
        call(bindings()[1].cudaGraphExecDestroy(self._executable))
