"""CUDA's runtime on the host's memory: what `cuda-bindings` has of it, as far as it is used here.

What is put on a stream is done when somebody waits for the stream, and copies may only touch memory
that is allocated, so that a missing wait or a wrong size fails.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


cudaHostAllocDefault = 0
OK = cudaError_t.cudaSuccess

allocated: dict[int, Any] = {}
"""The buffers by their addresses."""


class cudaStream_t:
    def __init__(self) -> None:
        self.work: list[Callable[[], object]] = []
        buffer = ctypes.create_string_buffer(1)
        self.address = ctypes.addressof(buffer)
        streams[self.address] = self
        self._buffer = buffer

    def __int__(self) -> int:
        return self.address

    def flush(self) -> None:
        work, self.work = self.work, []
        for one in work:
            one()


streams: dict[int, cudaStream_t] = {}


def require(address: int, size: int) -> None:
    """Raises MemoryError where these bytes are not of one allocation."""
    for start, buffer in allocated.items():
        if start <= address and address + size <= start + len(buffer):
            return
    raise MemoryError(f"{size} bytes at {address} are not allocated")


def cudaMalloc(size: int) -> tuple[Any, ...]:
    if size <= 0:
        return (cudaError_t.cudaErrorInvalidValue, 0)
    buffer = ctypes.create_string_buffer(size)
    allocated[ctypes.addressof(buffer)] = buffer
    return OK, ctypes.addressof(buffer)


def cudaFree(address: int) -> tuple[Any, ...]:
    return (OK if allocated.pop(address, None) else cudaError_t.cudaErrorInvalidValue,)


def cudaHostAlloc(size: int, flags: int) -> tuple[Any, ...]:
    return cudaMalloc(size)


cudaFreeHost = cudaFree


def cudaMemcpy(to: int, source: int, size: int, kind: cudaMemcpyKind) -> tuple[Any, ...]:
    require(to if kind == cudaMemcpyKind.cudaMemcpyHostToDevice else source, size)
    ctypes.memmove(to, source, size)
    return (OK,)


def cudaMemcpyAsync(
    to: int, source: int, size: int, kind: cudaMemcpyKind, stream: cudaStream_t
) -> tuple[Any, ...]:
    stream.work.append(lambda: cudaMemcpy(to, source, size, kind))
    return (OK,)


def cudaStreamCreate() -> tuple[Any, ...]:
    return OK, cudaStream_t()


def cudaStreamSynchronize(stream: cudaStream_t) -> tuple[Any, ...]:
    stream.flush()
    return (OK,)


def cudaStreamDestroy(stream: cudaStream_t) -> tuple[Any, ...]:
    del streams[stream.address]
    return (OK,)


def cudaGetDeviceCount() -> tuple[Any, ...]:
    return OK, 1


def cudaEventCreate() -> tuple[Any, ...]:
    return OK, object()


def cudaEventRecord(event: object, stream: cudaStream_t) -> tuple[Any, ...]:
    return (OK,)


def cudaEventDestroy(event: object) -> tuple[Any, ...]:
    return (OK,)
