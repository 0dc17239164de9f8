"""Which nodes of a detector's graph may leave fp32: its network, not what decodes its boxes.

The network is all that a layer is computed from, followed backwards through operators that only
carry or scale values. It ends at the last layer on each path: scores, anchors, box arithmetic,
TopK, NMS and RoiAlign come after, or lie behind an operator that is not followed, as do the sums of
a normalisation or a softmax, which half precision hurts.

Layers are what has weights. A product of two computed values is one only where a layer reads it,
as an output projection reads attention; elsewhere it counts the pixels that two masks share (more
than fp16 can), or averages boxes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

import onnx

from farm.errors import StepFailed, nearest

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PRODUCTS = {"Gemm", "MatMul"}
_BRANCHES = {"If", "Loop", "Scan"}  # their inner graphs read values that are no inputs

_ACTIVATIONS = {"Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid"}
_POOLS = {"AveragePool", "GlobalAveragePool", "MaxPool", "Resize"}
_MOVERS = {"Expand", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze"}
_MOVERS |= {"Concat", "DepthToSpace", "SpaceToDepth", "Transpose", "Unsqueeze"}
_CARRIERS = _ACTIVATIONS | _POOLS | _MOVERS | {"Add", "BatchNormalization", "Mul", "Tanh"}

_JOINERS = {"Div", "InstanceNormalization", "LayerNormalization", "Softmax", "Sub", "Where"}
"""What stands, beside carriers, between a product and the layer that reads it."""

_DATA = dict.fromkeys(
    ("Expand", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Unsqueeze"), (0,)
) | {"Pad": (0, 2)}
"""Which inputs are values of the network; all of them for operators that are not named."""


def data_inputs(node: onnx.NodeProto) -> list[int]:
    """Positions of the inputs that are values, not shapes, indices or scales."""
    positions = _DATA.get(node.op_type, range(len(node.input)))
    return [i for i in positions if i < len(node.input) and node.input[i]]


def data_outputs(node: onnx.NodeProto) -> list[int]:
    """Positions of the outputs that are values; MaxPool's second are indices."""
    return list(range(len(node.output))) if node.op_type == "Split" else [0]


def network(graph: onnx.GraphProto, kept: Sequence[str]) -> list[int]:
    """Positions in `graph.node` of the network's nodes, without those named in `kept`."""
    excluded = set(kept)
    found = _behind(graph, _layers(graph), _CARRIERS)
    return sorted(i for i in found if graph.node[i].name not in excluded)


def _behind(graph: onnx.GraphProto, starts: Collection[int], followed: Collection[str]) -> set[int]:
    """Find `starts` and the nodes that they are computed from through `followed` operators."""
    made_by = {name: i for i, node in enumerate(graph.node) for name in node.output}
    waiting, found = list(starts), set(starts)
    while waiting:
        node = graph.node[waiting.pop()]
        for position in data_inputs(node):
            i = made_by.get(node.input[position])
            if i is not None and i not in found and graph.node[i].op_type in followed:
                found.add(i)
                waiting.append(i)
    return found


def _layers(graph: onnx.GraphProto) -> set[int]:
    """Positions of the nodes with weights, and of the products that these read."""
    constant = _constants(graph)
    weighted = {i for i, node in enumerate(graph.node) if node.op_type in WEIGHTED}
    products = {
        i
        for i in weighted
        if graph.node[i].op_type in _PRODUCTS and constant.isdisjoint(graph.node[i].input[:2])
    }
    read = _behind(graph, weighted - products, _CARRIERS | _JOINERS | WEIGHTED)
    return weighted - (products - read)


def _constants(graph: onnx.GraphProto) -> set[str]:
    """Weights, and what is computed from nothing else."""
    found = {one.name for one in graph.initializer}
    for node in graph.node:
        computed = found.issuperset(filter(None, node.input)) and node.op_type not in _BRANCHES
        if node.op_type == "Constant" or (node.input and computed):
            found.update(node.output)
    return found


def prepare(graph: onnx.GraphProto) -> None:
    """Give every node a name by which `keep_fp32` can select it.

    Raises:
        StepFailed: the network is not in fp32.
    """
    names = {node.name for node in graph.node}
    for i, node in enumerate(graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{i}"
            while node.name in names:
                node.name += "_"
    weights = {one.name: one.data_type for one in graph.initializer}
    for node in graph.node:
        types = {weights.get(name, onnx.TensorProto.FLOAT) for name in node.input}
        own = node.op_type in WEIGHTED and types != {onnx.TensorProto.FLOAT}
        if own or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            raise StepFailed(
                f"the file has a precision of its own ({node.name}): "
                "run it as fp32, which leaves it as it is"
            )


def layers(graph: onnx.GraphProto) -> list[str]:
    """Names of the network's layers: what can be kept in fp32."""
    return [graph.node[i].name for i in sorted(_layers(graph))]


def matching(graph: onnx.GraphProto, patterns: Sequence[str]) -> list[str]:
    """Return the network's nodes whose names fit one of the patterns (shell's `*` and `?`).

    Raises:
        StepFailed: a pattern fits no name, so that it would keep nothing.
    """
    names = [graph.node[i].name for i in network(graph, ())]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise StepFailed(
                f"no layer is named {pattern!r}, to be kept in fp32{nearest(pattern, names[:200])}"
            )
    return [name for name in names if any(fnmatchcase(name, one) for one in patterns)]
