"""An engine that runs: shapes within its profile, outputs as arrays of the caller's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm.errors import StepFailed, TransientFailure
from farm.runtimes.trt import cuda, engine, plugins
from farm.runtimes.trt.log import logger
from farm.runtimes.trt.options import parse
from farm.runtimes.trt.versions import Version, names, version

if TYPE_CHECKING:
    from farm.inputs import EngineOptions

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


def open_engine(library: Any, folder: Path, options: EngineOptions) -> TensorRtSession:
    """Raises TransientFailure where this machine has not the engine's GPU, version or memory."""
    known = version(names(library))
    own = parse(options, known.ahead_of_time)
    facts = engine.read(folder)
    engine.require_fit(folder, facts, library.__version__, cuda.gpus()[0])
    log = logger(library)
    log.begin()
    plugins.load(library, known, log, own.plugins)
    runtime = library.Runtime(log)
    if facts.version_compatible:
        runtime.engine_host_code_allowed = True  # such a plan carries its own runtime
    loaded = runtime.deserialize_cuda_engine((folder / engine.PLAN).read_bytes())
    context = loaded.create_execution_context() if loaded is not None else None
    if context is None:
        kind = TransientFailure if log.out_of_memory() else StepFailed
        raise kind(f"the engine {folder / engine.PLAN} does not load:\n{log.reason()}")
    return TensorRtSession(library, known, runtime, loaded, context, own.cuda_graph)


class TensorRtSession:
    """One engine, one execution context, one stream.

    cuda_graph: what the engine does for one input shape is captured and launched as one; only
    where all shapes are fixed and known beforehand.
    """

    def __init__(
        self, library: Any, known: Version, runtime: Any, loaded: Any, context: Any, graph: bool
    ) -> None:
        self._library, self._version, self._log = library, known, logger(library)
        self._runtime, self._engine, self._context = runtime, loaded, context
        self._stream = cuda.Stream()
        tensors = [loaded.get_tensor_name(i) for i in range(loaded.num_io_tensors)]
        inputs = [name for name in tensors if self._is_input(name)]
        if len(inputs) != 1:
            raise StepFailed(f"the engine has the inputs {inputs}; expected one, the images")
        self._input = Input(library, loaded, inputs[0])
        self._outputs = [
            Output(library, known, loaded, name) for name in tensors if name not in inputs
        ]
        self._shape: Dims | None = None
        self._graph: cuda.Graph | None = None
        self._wants_graph = graph and not self._input.dynamic

    def _is_input(self, name: str) -> bool:
        mode = self._engine.get_tensor_mode(name)
        return bool(mode == self._library.TensorIOMode.INPUT)

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, Array]:
        """images: float32 [N, 3, H, W] within the profile. Raises StepFailed for other shapes."""
        if images.shape != self._shape:
            self._take(images.shape)
        self._input.copy(images, self._stream)
        self._enqueue()
        for output in self._outputs:
            output.fetch(self._stream)
        self._stream.wait()
        return {output.name: output.array() for output in self._outputs}

    def device_time_ms(self) -> float:
        """GPU time of the last run's computation alone, between two events round it."""
        return self._stream.elapsed_ms()

    @property
    def uses_cuda_graph(self) -> bool:
        return self._graph is not None

    def close(self) -> None:
        """Free the GPU's memory; in the order that TensorRT asks."""
        if self._context is None:
            return
        self._stream.wait()
        if self._graph:
            self._graph.free()
        self._context = self._engine = self._runtime = None
        self._input.free()
        for output in self._outputs:
            output.free()
        self._stream.free()

    def _take(self, shape: Dims) -> None:
        """Make ready for images of this shape."""
        self._input.require(shape)
        self._shape = None
        if not self._context.set_input_shape(self._input.name, shape):
            raise StepFailed(f"the engine does not take {shape}:\n{self._log.reason()}")
        address = self._context.set_tensor_address
        address(self._input.name, self._input.reserve(shape))
        for output in self._outputs:
            output.place(self._context)
        self._shape = shape

    def _enqueue(self) -> None:
        if self._wants_graph and self._graph is None:
            self._capture()
        self._stream.begin()
        if self._graph:
            self._graph.launch()
        else:
            self._execute()
        self._stream.end()

    def _execute(self) -> None:
        self._log.begin()
        if not self._context.execute_async_v3(self._stream.handle):
            kind = TransientFailure if self._log.out_of_memory() else StepFailed
            raise kind(f"the engine failed to run:\n{self._log.reason()}")

    def _capture(self) -> None:
        """Once, after a run that is not captured: what is lazy is then done."""
        self._wants_graph = False
        self._execute()
        self._stream.wait()
        if any(output.depends_on_data for output in self._outputs):
            return
        if self._version.asks_capturable and not self._context.is_stream_capturable(
            self._stream.handle
        ):
            return
        self._stream.capture_begin()
        try:
            self._execute()
        finally:
            graph = self._stream.capture_end()
        self._graph = graph


class Input:
    """The images: the bounds of the profile, pinned memory, memory of the GPU."""

    def __init__(self, library: Any, loaded: Any, name: str) -> None:
        self.name = name
        self._dtype = _dtype(loaded, name)
        self.dynamic = -1 in tuple(loaded.get_tensor_shape(name))
        if self.dynamic:
            low, _, high = (tuple(dims) for dims in loaded.get_tensor_profile_shape(name, 0))
        else:
            low = high = tuple(loaded.get_tensor_shape(name))
        self._low, self._high = low, high
        self._device, self._host = cuda.DeviceMemory(), cuda.PinnedMemory()

    def require(self, shape: Dims) -> None:
        fits = len(shape) == len(self._low) and all(
            low <= size <= high
            for low, size, high in zip(self._low, shape, self._high, strict=False)
        )
        if not fits:
            bounds = " to ".join(dict.fromkeys(map(_text, (self._low, self._high))))
            raise StepFailed(f"the engine takes {self.name} of {bounds}, not of {_text(shape)}")

    def reserve(self, shape: Dims) -> int:
        return self._device.reserve(int(np.prod(shape)) * np.dtype(self._dtype).itemsize)

    def copy(self, images: Array, stream: cuda.Stream) -> None:
        pinned = self._host.array(images.shape, self._dtype)
        np.copyto(pinned, images, casting="same_kind")
        stream.to_device(self._device.pointer, pinned)

    def free(self) -> None:
        self._device.free()
        self._host.free()


class Output:
    """One output: its memory, and an allocator where its extent is known only afterwards."""

    def __init__(self, library: Any, known: Version, loaded: Any, name: str) -> None:
        self.name = name
        self._dtype = _dtype(loaded, name)
        self._device, self._host = cuda.DeviceMemory(), cuda.PinnedMemory()
        self._allocator: Any = None
        self._make = library.IOutputAllocator
        self._shape: Dims = ()
        self._fetched: Array = np.empty(0)

    @property
    def depends_on_data(self) -> bool:
        return self._allocator is not None

    def place(self, context: Any) -> None:
        """After the input's shape is set: memory of the extent that follows from it."""
        shape = tuple(context.get_tensor_shape(self.name))
        if min(shape, default=0) < 0:
            if self._allocator is None:
                self._allocator = _allocator(self._make, self._device)
                context.set_output_allocator(self.name, self._allocator)
            return
        self._shape = shape
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(self._dtype).itemsize
        context.set_tensor_address(self.name, self._device.reserve(size))

    def fetch(self, stream: cuda.Stream) -> None:
        """Begin the copy to the host. The extent that depends on data is known by now: enqueueV3
        has told it to the allocator."""
        if self._allocator is not None:
            self._shape = self._allocator.shape
        self._fetched = self._host.array(self._shape, self._dtype)
        stream.to_host(self._fetched, self._device.pointer)

    def array(self) -> Array:
        return self._fetched.copy()

    def free(self) -> None:
        self._fetched = np.empty(0)
        self._device.free()
        self._host.free()


def _allocator(base: Any, memory: cuda.DeviceMemory) -> Any:
    """TensorRT asks it for memory while the engine runs: 8.6 by the first name, later by the
    second."""

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
        raise StepFailed(f"the engine's {name} is {kind}, which numpy has not: cast it to fp32")
    return _DTYPES[kind]


def _text(shape: Dims) -> str:
    return "x".join(map(str, shape))
