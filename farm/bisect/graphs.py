"""Which values of an ONNX file can be compared, and from which others each is computed."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator

import onnx

from farm.precision.typed import inner_reads

_OF_SHAPES = {"Shape", "Size"}
"""What depends on a value's shape alone."""

_SELECTIONS = {"NonMaxSuppression", "NonZero", "TopK"}
"""What chooses rows by their values, and puts them in an order."""


class Graph:
    """The graph of an ONNX file, by its values.

    values: those that depend on the images, in the order of their nodes; what is computed from
    weights and shapes alone is left out, and so are sequences. types: ONNX's element type of each.
    Inner graphs (of If, Loop, Scan) count as their node.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[onnx.NodeProto] = list(model.graph.node)
        self.made_by = {name: i for i, one in enumerate(self.nodes) for name in one.output if name}
        weights = {one.name for one in model.graph.initializer}
        self._data = {one.name for one in model.graph.input} - weights
        self.types = _types(model)
        found = []
        for node in self.nodes:
            if node.op_type not in _OF_SHAPES and not self._data.isdisjoint(reads(node)):
                own = [name for name in node.output if name]
                self._data.update(own)
                found += [name for name in own if name in self.types]
        self.values = tuple(found)
        self.outputs = tuple(one.name for one in model.graph.output if one.name in self._data)

    def only(self, values: Collection[str]) -> Graph:
        """Return the same graph, in which these values alone can be compared."""
        made = copy.copy(self)
        made.values = tuple(name for name in self.values if name in values)
        return made

    def node(self, value: str) -> onnx.NodeProto:
        """Return the node that makes a value."""
        return self.nodes[self.made_by[value]]

    def depends(self, name: str) -> bool:
        """Whether a value depends on the images."""
        return name in self._data

    def unselected(self) -> set[str]:
        """Return the values that are computed from no selection of rows."""
        selected: set[str] = set()
        for node in self.nodes:
            if node.op_type in _SELECTIONS or not selected.isdisjoint(reads(node)):
                selected.update(node.output)
        return {*self.values} - selected

    def behind(self, value: str, known: Collection[str]) -> list[str]:
        """Return what a value is computed from, in order, without what lies behind `known` ones."""
        found = {name for name in self._walk(value, known) if name not in known}
        return [name for name in self.values if name in found]

    def border(self, value: str, known: Collection[str]) -> list[str]:
        """Return the `known` values that a value is computed from, in order: the nearest ones."""
        found = {name for name in self._walk(value, known) if name in known}
        return [name for name in self.values if name in found]

    def _walk(self, value: str, known: Collection[str]) -> Iterator[str]:
        """Yield the values behind one, and the `known` ones where it ends."""
        seen, waiting = {value}, [value]
        while waiting:
            i = self.made_by.get(waiting.pop())
            if i is None or self.nodes[i].op_type in _OF_SHAPES:
                continue
            for name in reads(self.nodes[i]):
                if name in self._data and name not in seen:
                    seen.add(name)
                    yield name
                    if name not in known:
                        waiting.append(name)


def reads(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node reads, those of its inner graphs included."""
    return {name for name in node.input if name} | inner_reads(node)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of the values, as far as ONNX can tell; sequences have none."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = [*graph.value_info, *graph.output]
    found = {one.name: one.type.tensor_type.elem_type for one in known}
    return {name: kind for name, kind in found.items() if kind}
