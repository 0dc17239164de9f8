"""An engine's inputs and outputs: their types and bounds, and their memory on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farm.errors import StepFailed
from farm.runtimes.tensorrt.memory import DeviceMemory, PinnedMemory, Stream

Array = npt.NDArray[Any]
Dims = tuple[int, ...]

_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


class Input:
    """The images: the bounds of the profile, pinned memory, memory of the GPU."""

    def __init__(self, loaded: Any, name: str) -> None:
        self.name = name
        self._dtype = _dtype(loaded, name)
        self.dynamic = -1 in tuple(loaded.get_tensor_shape(name))
        if self.dynamic:
            low, _, high = (tuple(dims) for dims in loaded.get_tensor_profile_shape(name, 0))
        else:
            low = high = tuple(loaded.get_tensor_shape(name))
        self._low, self._high = low, high
        self._device, self._host = DeviceMemory(), PinnedMemory()

    def require(self, shape: Dims) -> None:
        """Check the shape of images.

        Raises:
            StepFailed: it is outside of the profile.
        """
        fits = len(shape) == len(self._low) and all(
            low <= size <= high
            for low, size, high in zip(self._low, shape, self._high, strict=False)
        )
        if not fits:
            bounds = " to ".join(dict.fromkeys(map(_text, (self._low, self._high))))
            raise StepFailed(f"the engine takes {self.name} of {bounds}, not of {_text(shape)}")

    def reserve(self, shape: Dims) -> int:
        """Return the address of memory for images of this shape."""
        return self._device.reserve(int(np.prod(shape)) * np.dtype(self._dtype).itemsize)

    def copy(self, images: Array, stream: Stream) -> None:
        """Begin the copy of images to the GPU."""
        pinned = self._host.array(images.shape, self._dtype)
        np.copyto(pinned, images, casting="same_kind")
        stream.to_device(self._device.pointer, pinned)

    def free(self) -> None:
        """Free the memory on both sides."""
        self._device.free()
        self._host.free()


class Output:
    """One output: its memory, and an allocator where its size depends on the data."""

    def __init__(self, library: Any, loaded: Any, name: str) -> None:
        self.name = name
        self._dtype = _dtype(loaded, name)
        self._device, self._host = DeviceMemory(), PinnedMemory()
        self._allocator: Any = None
        self._make = library.IOutputAllocator
        self._shape: Dims = ()
        self._fetched: Array = np.empty(0)

    @property
    def depends_on_data(self) -> bool:
        """Whether its size is known only after a run."""
        return self._allocator is not None

    def bind(self, context: Any) -> None:
        """Set the output's memory for the input's shape."""
        shape = tuple(context.get_tensor_shape(self.name))
        if min(shape, default=0) < 0:
            if self._allocator is None:
                self._allocator = _allocator(self._make, self._device)
                context.set_output_allocator(self.name, self._allocator)
            return
        self._shape = shape
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(self._dtype).itemsize
        context.set_tensor_address(self.name, self._device.reserve(size))

    def fetch(self, stream: Stream) -> None:
        """Begin the copy to the host; a size that depends on data is known to the allocator now."""
        if self._allocator is not None:
            self._shape = self._allocator.shape
        self._fetched = self._host.array(self._shape, self._dtype)
        stream.to_host(self._fetched, self._device.pointer)

    def array(self) -> Array:
        """Return a copy of the fetched output."""
        return self._fetched.copy()

    def free(self) -> None:
        """Free the memory on both sides."""
        self._fetched = np.empty(0)
        self._device.free()
        self._host.free()


def _allocator(base: Any, memory: DeviceMemory) -> Any:
    """Return an allocator that TensorRT calls during a run: 8.6 by the first name, later versions
    by the second."""

    class Allocator(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)
            self.shape: Dims = ()

        def reallocate_output(self, name: str, current: int, size: int, alignment: int) -> int:
            return memory.reserve(size)

        def reallocate_output_async(
            self, name: str, current: int, size: int, alignment: int, stream: int
        ) -> int:
            return memory.reserve(size)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()


def _dtype(loaded: Any, name: str) -> Any:
    kind = loaded.get_tensor_dtype(name).name
    if kind not in _DTYPES:
        raise StepFailed(
            f"the engine's {name} is {kind}, which numpy does not have: cast it to fp32"
        )
    return _DTYPES[kind]


def _text(shape: Dims) -> str:
    return "x".join(map(str, shape))
