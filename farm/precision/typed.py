"""fp16 and bf16: the network's weights and values in that type, with casts at its borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from farm.precision.region import data_inputs, data_outputs, network

TYPES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
_NUMPY = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}


def reduce_precision(model: onnx.ModelProto, precision: str, kept: Sequence[str]) -> list[str]:
    """Convert the network in place, and return the names of the nodes now in `precision`.

    kept: nodes that stay in fp32. A value keeps its name for what reads it in fp32, graph
    outputs included, and is made by a cast; its reduced form has the precision as suffix.
    """
    graph = model.graph
    positions = set(network(graph, kept))
    typed = _Typed(graph, precision, positions)
    nodes: list[onnx.NodeProto] = []
    for i, node in enumerate(graph.node):
        nodes += typed.node(node) if i in positions else [node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(typed.weights.values())
    del graph.value_info[:]  # its types are those before the change
    _drop_unused(graph)
    return typed.reduced


class _Typed:
    """The network's nodes, one after another, in another type."""

    def __init__(self, graph: onnx.GraphProto, precision: str, positions: set[int]) -> None:
        self._suffix, self._type, self._numpy = precision, TYPES[precision], _NUMPY[precision]
        self._constants = constants(graph)
        self._made: set[str] = set()  # values that exist in the type
        self._read_in_fp32 = reads_outside(graph, positions)
        self.weights: dict[str, onnx.TensorProto] = {}
        self.reduced: list[str] = []

    def node(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Convert a node, and add the casts that it needs before and after."""
        before, after = [], []
        new = onnx.NodeProto()
        new.CopyFrom(node)
        for i in data_inputs(node):
            new.input[i], casts = self._input(node.input[i])
            before += casts
        for i in data_outputs(node):
            name, own = node.output[i], self._name(node.output[i])
            new.output[i] = own
            self._made.add(name)
            if name in self._read_in_fp32:
                to = onnx.TensorProto.FLOAT
                after.append(helper.make_node("Cast", [own], [name], f"{name}_to_fp32", to=to))
        self.reduced.append(node.name)
        return [*before, new, *after]

    def _name(self, value: str) -> str:
        return f"{value}_{self._suffix}"

    def _input(self, name: str) -> tuple[str, list[onnx.NodeProto]]:
        own = self._name(name)
        if name in self._made:
            return own, []
        self._made.add(name)
        if (constant := self._constants.get(name)) is not None:
            values = numpy_helper.to_array(constant)
            self.weights[own] = numpy_helper.from_array(self._clipped(values), own)
            return own, []
        cast = helper.make_node("Cast", [name], [own], f"{name}_to_{self._suffix}", to=self._type)
        return own, [cast]

    def _clipped(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Round to the type, and clip to its range, as the open end of a Clip needs it."""
        end = float(ml_dtypes.finfo(self._numpy).max)  # type: ignore[no-untyped-call]
        clipped: npt.NDArray[Any] = np.clip(values, -end, end).astype(self._numpy)
        return clipped


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Weights and constants of the graph, by name."""
    found = {one.name: one for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            name = node.output[0]
            found.update((name, one.t) for one in node.attribute if one.name == "value")
    return found


def reads_outside(graph: onnx.GraphProto, positions: set[int]) -> set[str]:
    """Values that something outside of the network reads: nodes, their inner graphs, outputs."""
    found = {output.name for output in graph.output}
    for i, node in enumerate(graph.node):
        reduced = set(data_inputs(node)) if i in positions else set()
        found |= {name for j, name in enumerate(node.input) if j not in reduced}
        found |= inner_reads(node)
    return found


def inner_reads(node: onnx.NodeProto) -> set[str]:
    """Return the names that the inner graphs of a node read, also of values of their own."""
    inner = [one.g for one in node.attribute if one.HasField("g")]
    inner += [graph for one in node.attribute for graph in one.graphs]
    found: set[str] = set()
    for graph in inner:
        found |= {output.name for output in graph.output}
        for one in graph.node:
            found |= set(one.input) | inner_reads(one)
    return found


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove weights and constants that nothing reads in fp32 any more."""
    read = reads_outside(graph, set())
    for i in reversed(range(len(graph.initializer))):
        if graph.initializer[i].name not in read:
            del graph.initializer[i]
    for i in reversed(range(len(graph.node))):
        if graph.node[i].op_type == "Constant" and graph.node[i].output[0] not in read:
            del graph.node[i]
