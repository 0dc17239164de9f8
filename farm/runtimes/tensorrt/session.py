"""Sessions: run an engine on images of shapes within its profile."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm.errors import StepFailed, TransientFailure
from farm.runtimes.tensorrt import api, cuda, engine
from farm.runtimes.tensorrt.api import Version, logger, names, version
from farm.runtimes.tensorrt.memory import Graph, Stream
from farm.runtimes.tensorrt.options import parse
from farm.runtimes.tensorrt.tensors import Dims, Input, Output

if TYPE_CHECKING:
    from farm.specs import EngineOptions

log = logging.getLogger(__name__)

Array = npt.NDArray[Any]


def open_engine(library: Any, folder: Path, options: EngineOptions) -> TensorRtSession:
    """Open an engine.

    Raises:
        InputError: an option does not exist.
        StepFailed: the engine does not load.
        TransientFailure: this machine has not the engine's GPU, version or memory.
    """
    known = version(names(library))
    own = parse(options, known.ahead_of_time)
    facts = engine.read(folder)
    engine.require_fit(folder, facts, library.__version__, cuda.gpus()[0])
    log = logger(library)
    log.begin()
    api.load_plugins(library, known, log, tuple(own.plugins or ()))
    runtime = library.Runtime(log)
    if facts.version_compatible:
        runtime.engine_host_code_allowed = True  # such a plan carries its own runtime
    loaded = runtime.deserialize_cuda_engine((folder / engine.PLAN).read_bytes())
    context = loaded.create_execution_context() if loaded is not None else None
    if context is None:
        kind = TransientFailure if log.out_of_memory() else StepFailed
        raise kind(f"the engine {folder / engine.PLAN} does not load:\n{log.reason()}")
    return TensorRtEngine(library, known, runtime, loaded, context, own.cuda_graph)


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
        self._stream = Stream()
        tensors = [loaded.get_tensor_name(i) for i in range(loaded.num_io_tensors)]
        inputs = [name for name in tensors if self._is_input(name)]
        if len(inputs) != 1:
            raise StepFailed(f"the engine has the inputs {inputs}; expected one, the images")
        self._input = Input(loaded, inputs[0])
        self._outputs = [Output(library, loaded, name) for name in tensors if name not in inputs]
        self._shape: Dims | None = None
        self._graph: Graph | None = None
        self._asks_graph = graph
        self._wants_graph = graph and not self._input.dynamic

    def _is_input(self, name: str) -> bool:
        mode = self._engine.get_tensor_mode(name)
        return bool(mode == self._library.TensorIOMode.INPUT)

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, Array]:
        """Run images float32 [N, 3, H, W].

        Raises:
            StepFailed: the shape is outside of the profile, or the engine fails.
            TransientFailure: memory ran out.
        """
        if images.shape != self._shape:
            self._take(images.shape)
        self._input.copy(images, self._stream)
        self._enqueue()
        for output in self._outputs:
            output.fetch(self._stream)
        self._stream.wait()
        return {output.name: output.array() for output in self._outputs}

    def device_time_ms(self) -> float:
        """Return the GPU time of the last run's computation alone, between two events."""
        return self._stream.elapsed_ms()

    @property
    def uses_cuda_graph(self) -> bool:
        """Whether runs are launched as one CUDA graph."""
        return self._graph is not None

    def close(self) -> None:
        """Free the GPU's memory; in the order that TensorRT needs."""
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
        """Set the input's shape and the addresses of all tensors."""
        self._input.require(shape)
        self._shape = None
        if not self._context.set_input_shape(self._input.name, shape):
            raise StepFailed(f"the engine does not take {shape}:\n{self._log.reason()}")
        address = self._context.set_tensor_address
        address(self._input.name, self._input.reserve(shape))
        for output in self._outputs:
            output.bind(self._context)
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
        """Capture a run, once, after one that initialises what is lazy.

        An engine that synchronises within a run cannot be captured, and runs without a graph.
        """
        self._wants_graph = False
        self._execute()
        self._stream.wait()
        if not self._capturable():
            log.info("no CUDA graph: what the engine does depends on its data")
            return
        try:
            self._graph = self._stream.capture(self._execute)
        except (StepFailed, TransientFailure) as error:
            log.info(f"no CUDA graph: {error}")

    def _capturable(self) -> bool:
        """Whether nothing known beforehand prevents a capture."""
        if any(output.depends_on_data for output in self._outputs):
            return False
        checks = self._version.asks_capturable
        return not checks or bool(self._context.is_stream_capturable(self._stream.handle))


class TensorRtEngine(TensorRtSession):
    """A session that can be opened again for several requests at once."""

    def concurrent(self, streams: int) -> list[TensorRtSession]:
        """Make an execution context and a stream for each request; see `farm.runtimes.Concurrent`.

        They share the engine's weights.
        """
        with ExitStack() as made:  # what was made is freed where the next one has no memory
            sessions = [made.enter_context(closing(self._another())) for _ in range(streams)]
            made.pop_all()
        return sessions

    def _another(self) -> TensorRtSession:
        self._log.begin()
        context = self._engine.create_execution_context()
        if context is None:
            kind = TransientFailure if self._log.out_of_memory() else StepFailed
            raise kind(f"no other execution context:\n{self._log.reason()}")
        return TensorRtSession(
            self._library, self._version, self._runtime, self._engine, context, self._asks_graph
        )
