"""One node by itself: what the reference makes of the very inputs that the engine's node had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from farm.bisect.differences import Array, Difference, difference
from farm.bisect.graphs import Graph, reads
from farm.bisect.sides import run_reference

if TYPE_CHECKING:
    from farm.bisect.sides import Pins, Side, Values
    from farm.detections import Floats

DECISIONS = frozenset(
    {"ArgMax", "ArgMin", "Cast", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less"}
    | {"LessOrEqual", "NonMaxSuppression", "NonZero", "Round", "Sign", "TopK"}
)
"""Operators whose results jump: inputs that are nearly equal may give others."""


class Alone:
    """The nodes of a file by themselves, for one batch of images."""

    def __init__(self, graph: Graph, reference: Side, engine: Side, images: Floats) -> None:
        self._graph, self._reference, self._engine = graph, reference, engine
        self._images = {graph.model.graph.input[0].name: images}

    def reads(self, values: Iterable[str], pins: Pins) -> list[str]:
        """Return what the engine is asked for: what the nodes of the values make and read."""
        names = dict.fromkeys(name for value in values for name in self._around(value))
        return [name for name in names if self._graph.depends(name) and name not in pins]

    def differences(self, values: Sequence[str], pins: Pins) -> dict[str, Difference]:
        """Return how far the values are from what the reference makes of the engine's inputs.

        What does not depend on the images is the reference's. A value is left out where the engine
        does not have all of its node's inputs.

        Raises:
            StepFailed: one of the sides cannot run.
        """
        graph = self._graph
        theirs = self._engine.values(self.reads(values, pins), pins)
        around = {name for value in values for name in self._around(value)}
        constant = sorted(name for name in around if not graph.depends(name))
        fixed = self._reference.values(constant, {}) if constant else {}
        known = {**self._images, **fixed, **pins, **theirs}
        there = (one for one in values if one in theirs and known.keys() >= {*self._around(one)})
        return {value: self._difference(value, known, theirs) for value in there}

    def _around(self, value: str) -> list[str]:
        """What the node of a value makes and reads, but for weights."""
        node, made_by = self._graph.node(value), self._graph.made_by
        return [name for name in (*sorted(reads(node)), *node.output) if name in made_by]

    def _difference(self, value: str, known: Values, theirs: Values) -> Difference:
        node = self._graph.node(value)
        inputs = {name: self._typed(name, known[name]) for name in sorted(reads(node) & {*known})}
        ours = run_reference(self._file(node, inputs), inputs, 1)
        if node.op_type == "TopK":
            return _of_ranks(node, inputs[node.input[0]], ours, theirs)
        if node.op_type == "NonMaxSuppression":
            return difference(_rows_in_order(ours[value]), _rows_in_order(theirs[value]))
        return difference(ours[value], theirs[value])

    def _typed(self, name: str, values: Array) -> Array:
        """The values in the type of the file: a runtime may give truth values as bytes."""
        kind = self._graph.types.get(name)
        return values.astype(helper.tensor_dtype_to_np_dtype(kind)) if kind else values

    def _file(self, node: onnx.NodeProto, inputs: Values) -> onnx.ModelProto:
        """The node as a file of its own."""
        own, model, types = reads(node), self._graph.model, self._graph.types
        weights = [one for one in model.graph.initializer if one.name in own - {*inputs}]
        kinds = {name: helper.np_dtype_to_tensor_dtype(one.dtype) for name, one in inputs.items()}
        kinds |= {name: types[name] for name in node.output if name}
        described = {
            name: helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()
        }
        outputs = [described[name] for name in node.output if name]
        graph = helper.make_graph([node], "alone", [described[i] for i in inputs], outputs, weights)
        versions = {"opset_imports": model.opset_import, "ir_version": model.ir_version}
        return helper.make_model(graph, **versions)


def _of_ranks(
    node: onnx.NodeProto, source: Array, ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> Difference:
    """TopK: of equal elements any may come first, so indices count by what lies there."""
    axis = next((one.i for one in node.attribute if one.name == "axis"), -1)
    best, places = node.output
    if places not in theirs or theirs[places].shape != ours[places].shape:
        return difference(ours[best], theirs[best])
    there = np.take_along_axis(source, theirs[places].astype(np.int64), axis)
    return difference(np.take_along_axis(source, ours[places], axis), there)


def _rows_in_order(rows: Array) -> Array:
    return rows[np.lexsort(rows.T)]
