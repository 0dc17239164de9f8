"""One node by itself: what the reference makes of the very inputs that the engine's node had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from farm.bisect.differences import Array, Difference, difference
from farm.bisect.graphs import Graph, reads
from farm.bisect.sides import run_reference

if TYPE_CHECKING:
    from farm.bisect.sides import Pins, Side
    from farm.detections import Floats

DECISIONS = frozenset(
    {"ArgMax", "ArgMin", "Cast", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Less"}
    | {"LessOrEqual", "NonMaxSuppression", "NonZero", "Round", "Sign", "TopK"}
)
"""Operators whose results jump: inputs that are nearly equal may give others."""


def own_difference(
    graph: Graph, reference: Side, engine: Side, images: Floats, value: str, pins: Pins
) -> Difference | None:
    """Return how far the engine's value is from what the reference makes of the engine's inputs.

    What does not depend on the images is the reference's. None where the engine does not have all
    of the node's inputs.

    Raises:
        StepFailed: one of the sides cannot run.
    """
    node = graph.node(value)
    outputs = [name for name in node.output if name]
    names = [name for name in reads(node) if name in graph.made_by and name not in pins]
    from_engine = [name for name in names if graph.depends(name)]
    theirs = engine.values([*from_engine, *outputs], pins)
    if not theirs.keys() >= {*from_engine, value}:
        return None
    constant = [name for name in names if not graph.depends(name)]
    inputs = {graph.model.graph.input[0].name: images, **pins}
    inputs |= reference.values(constant, {}) if constant else {}
    inputs |= {name: theirs[name] for name in from_engine}
    ours = run_reference(_alone(graph, node, inputs), None, 1)
    if node.op_type == "TopK":
        return _of_ranks(node, inputs[node.input[0]], ours, theirs)
    if node.op_type == "NonMaxSuppression":
        return difference(_rows_in_order(ours[value]), _rows_in_order(theirs[value]))
    return difference(ours[value], theirs[value])


def _alone(graph: Graph, node: onnx.NodeProto, inputs: Mapping[str, Array]) -> onnx.ModelProto:
    """The node as a file of its own, without inputs."""
    needed = reads(node)
    weights = [one for one in graph.model.graph.initializer if one.name in needed]
    for name in sorted(needed & inputs.keys()):
        values = inputs[name]
        if kind := graph.types.get(name):  # a runtime may give truth values as bytes
            values = values.astype(helper.tensor_dtype_to_np_dtype(kind))
        weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    outputs = [
        helper.make_tensor_value_info(name, graph.types[name], None) for name in node.output if name
    ]
    made = helper.make_graph([node], "alone", [], outputs, weights)
    return helper.make_model(
        made, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version
    )


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
