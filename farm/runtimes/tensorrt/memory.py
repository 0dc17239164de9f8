"""Memory of the GPU and of the host, and streams on which work and copies follow one another."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.runtimes.tensorrt.cuda import bindings, call


class DeviceMemory:
    """Memory of the GPU that grows when more is needed, and else keeps its address."""

    def __init__(self) -> None:
        self.pointer, self.size = 0, 0

    def reserve(self, size: int) -> int:
        """Return the address of `size` bytes or more; never 0, which TensorRT does not accept."""
        if size > self.size or not self.pointer:
            self.free()
            self.pointer = int(call(bindings()[1].cudaMalloc(max(size, 1))))
            self.size = size
        return self.pointer

    def free(self) -> None:
        """Free the memory."""
        if self.pointer:
            call(bindings()[1].cudaFree(self.pointer))
            self.pointer, self.size = 0, 0


class PinnedMemory:
    """Pinned host memory, which the GPU copies directly; it grows when more is needed."""

    def __init__(self) -> None:
        self._pointer, self._size = 0, 0

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array on this memory, which is valid until the next call."""
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
        """Free the memory."""
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
        """The stream's address, as TensorRT takes it."""
        return int(self._stream)

    def to_device(self, pointer: int, array: npt.NDArray[Any]) -> None:
        """Copy an array to the GPU."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(pointer, array.ctypes.data, array.nbytes, kind)

    def to_host(self, array: npt.NDArray[Any], pointer: int) -> None:
        """Copy from the GPU into an array."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, pointer, array.nbytes, kind)

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        if size:
            call(self._cuda.cudaMemcpyAsync(to, source, size, kind, self._stream))

    def begin(self) -> None:
        """Record the event before the work of a run."""
        call(self._cuda.cudaEventRecord(self._began, self._stream))

    def end(self) -> None:
        """Record the event after the work of a run."""
        call(self._cuda.cudaEventRecord(self._ended, self._stream))

    def elapsed_ms(self) -> float:
        """Return the time between begin and end; call `wait` before."""
        return float(call(self._cuda.cudaEventElapsedTime(self._began, self._ended)))

    def wait(self) -> None:
        """Wait until all work on the stream is done."""
        call(self._cuda.cudaStreamSynchronize(self._stream))

    def capture(self, work: Callable[[], None]) -> Graph:
        """Capture what `work` puts on the stream as a graph; a failure leaves it unchanged."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(self._cuda.cudaStreamBeginCapture(self._stream, mode))
        try:
            work()
        except BaseException:
            self._cuda.cudaStreamEndCapture(self._stream)  # its own error adds nothing
            raise
        graph = call(self._cuda.cudaStreamEndCapture(self._stream))
        try:
            return Graph(call(self._cuda.cudaGraphInstantiate(graph, 0)), self._stream)
        finally:
            call(self._cuda.cudaGraphDestroy(graph))

    def free(self) -> None:
        """Destroy the stream and its events."""
        for event in (self._began, self._ended):
            call(self._cuda.cudaEventDestroy(event))
        call(self._cuda.cudaStreamDestroy(self._stream))


class Graph:
    """What was captured on a stream, ready to be launched on it as one."""

    def __init__(self, executable: Any, stream: Any) -> None:
        self._executable, self._stream = executable, stream

    def launch(self) -> None:
        """Run the captured work."""
        call(bindings()[1].cudaGraphLaunch(self._executable, self._stream))

    def free(self) -> None:
        """Destroy the graph."""
        call(bindings()[1].cudaGraphExecDestroy(self._executable))
