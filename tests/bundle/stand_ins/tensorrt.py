"""TensorRT, whose plans are ONNX files that ONNX Runtime runs on the CPU.

It has what a session needs, in the forms of the versions 8.6 and 10 (FARM_TEST_TENSORRT): 8.6
makes int32 of int64, and they call different methods of an allocator. An axis that has no extent in
the file is found by a run, as that of an NMS is.
"""

from __future__ import annotations

import os
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from cuda.bindings import runtime as cudart

__version__ = os.environ.get("FARM_TEST_TENSORRT", "10.13.0")
OLD = __version__.startswith("8.")

_TYPES = {"tensor(float)": "FLOAT", "tensor(int64)": "INT32" if OLD else "INT64"}
_NUMPY = {"FLOAT": np.float32, "INT32": np.int32, "INT64": np.int64}


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


class ILogger:
    """The base of the farm's own logger."""


class Logger(ILogger):
    ERROR = 1

    def __init__(self, least: int) -> None:
        self.least = least


class IOutputAllocator:
    """The base of allocators, of whose methods one version calls the first, one the second."""

    def __init__(self) -> None:
        self.made = True


class IPluginRegistry:
    plugin_creator_list: tuple[Any, ...] = ()


def init_libnvinfer_plugins(logger: ILogger, namespace: str) -> bool:
    return True


def get_plugin_registry() -> IPluginRegistry:
    return IPluginRegistry()


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        try:
            return Engine(onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"]))
        except Exception:  # as TensorRT, which writes to its log
            return None


class Engine:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.tensors = {one.name: one for one in (*session.get_inputs(), *session.get_outputs())}
        self.num_io_tensors = len(self.tensors)
        self.inputs = {one.name for one in session.get_inputs()}

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=_TYPES[self.tensors[name].type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(n if isinstance(n, int) else -1 for n in self.tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> Any:
        low = tuple(1 if n == -1 else n for n in self.get_tensor_shape(name))
        return low, low, tuple(4096 if n == -1 else n for n in self.get_tensor_shape(name))

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        wanted = self.engine.get_tensor_shape(name)
        fits = all(most in (-1, size) for most, size in zip(wanted, shape, strict=True))
        self.shapes[name] = tuple(shape)
        return fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes.get(name) or self.engine.get_tensor_shape(name)

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert address
        self.addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: IOutputAllocator) -> bool:
        assert allocator.made  # its base was initialised
        self.allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        """Compute now, as far as memory is asked for; outputs are there when the stream is done."""
        work = cudart.streams[stream]
        work.flush()
        (images,) = self.engine.inputs
        size = int(np.prod(self.shapes[images])) * 4
        cudart.require(self.addresses[images], size)
        values = np.frombuffer(_bytes_at(self.addresses[images], size), np.float32)
        names = [name for name in self.engine.tensors if name != images]
        feeds = {images: values.reshape(self.shapes[images])}
        found = self.engine.session.run(names, feeds)
        for name, value in zip(names, found, strict=True):
            kind = _NUMPY[self.engine.get_tensor_dtype(name).name]
            self._give(name, np.ascontiguousarray(value, kind), work)
        return True

    def _give(self, name: str, value: Any, work: Any) -> None:
        if name in self.allocators:
            allocator, size = self.allocators[name], value.nbytes
            if OLD:
                address = allocator.reallocate_output(name, 0, size, 256)
            else:
                address = allocator.reallocate_output_async(name, 0, size, 256, int(work))
            allocator.notify_shape(name, value.shape)
        else:
            address = self.addresses[name]
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        if value.nbytes:
            work.work.append(
                lambda: cudart.cudaMemcpy(address, value.ctypes.data, value.nbytes, kind)
            )


def _bytes_at(address: int, size: int) -> bytes:
    import ctypes

    return ctypes.string_at(address, size)
