"""The two sides that are compared: the reference and the engine, with values read out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import onnx
import onnxruntime as ort

from farm.bisect import marking
from farm.bisect.differences import Array, Difference, difference
from farm.errors import StepFailed
from farm.failures import in_one_line
from farm.runtimes.onnxruntime.sessions import CPU, session_options

if TYPE_CHECKING:
    from farm.bisect.engines import Runs
    from farm.bisect.graphs import Graph
    from farm.detections import Floats

Pins = Mapping[str, Array]
Values = Mapping[str, Array]


class Side(Protocol):
    """What computes values of a file for one batch of images."""

    def values(self, names: Sequence[str], pins: Pins) -> Values:
        """Return the values of these names; those that it does not have are left out.

        pins: values that both sides are given.

        Raises:
            StepFailed: it cannot run.
        """


class Reference:
    """The plainest run of the fp32 file: ONNX Runtime on the CPU, without optimisations."""

    def __init__(self, graph: Graph, images: Floats, threads: int) -> None:
        self._graph, self._threads = graph, threads
        self._feed = {graph.model.graph.input[0].name: images}

    def values(self, names: Sequence[str], pins: Pins) -> Values:
        """Return the values; see `Side`."""
        own = {name: name for name in names}
        model = marking.marked(self._graph.model, own, self._graph.types, pins)
        return run_reference(model, self._feed, self._threads)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each value of the graph, for these images."""
        model, suffix = marking.shaped(self._graph.model, self._graph.values), marking.SHAPE
        found = run_reference(model, self._feed, self._threads)
        return {name: tuple(map(int, found[name + suffix])) for name in self._graph.values}


def run_reference(model: onnx.ModelProto, inputs: Values, threads: int) -> dict[str, Array]:
    """Run a file once, in ONNX Runtime on the CPU without optimisations.

    Raises:
        StepFailed: ONNX Runtime cannot.
    """
    settings = session_options(threads)
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(model.SerializeToString(), settings, providers=[CPU])
        names = [one.name for one in session.get_outputs()]
        values = session.run(names, dict(inputs))
    except Exception as error:  # ONNX Runtime's error types have no common base class
        reason = f"ONNX Runtime, the reference, cannot run it: {in_one_line(error)}"
        raise StepFailed(reason) from error
    return dict(zip(names, values, strict=True))


class Engine:
    """A cell's engine: its file with further outputs, built and run anew for each pass."""

    def __init__(
        self, model: onnx.ModelProto, precision: str, graph: Graph, runs: Runs, images: Floats
    ) -> None:
        self._model, self._precision, self._graph = model, precision, graph
        self._runs, self._images = runs, images

    def values(self, names: Sequence[str], pins: Pins) -> Values:
        """Return the values; see `Side`."""
        own = marking.names_in(self._model, self._precision, names)
        made = marking.marked(self._model, own, self._graph.types, pins)
        with tempfile.TemporaryDirectory(prefix="farm-bisect-") as folder:
            file = Path(folder, "model.onnx")
            onnx.save(made, str(file))
            outputs = self._runs.run(file, self._images)
        return {value: _widened(outputs[name]) for value, name in own.items() if name in outputs}


def _widened(values: Array) -> Array:
    """Half precision as float32."""
    return values.astype(np.float32) if values.dtype == np.float16 else values


def differences(
    reference: Side, engine: Side, names: Sequence[str], pins: Pins
) -> dict[str, Difference]:
    """Run both sides, and return how far each value is apart that both have."""
    theirs = engine.values(names, pins)
    ours = reference.values(list(theirs), pins)
    return {name: difference(ours[name], values) for name, values in theirs.items()}
