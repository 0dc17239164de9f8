"""Which nodes of a detector's graph may leave fp32: its network, not what decodes its boxes.

The network is all that a convolution or a matrix product is computed from, followed backwards
through operators that only carry or scale values. It ends at the last of them on each path:
scores, anchors, box arithmetic, TopK, NMS and RoiAlign come after, or lie behind an operator that
is not followed, as do the sums of a normalisation or a softmax, which half precision hurts.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import onnx

from farm.errors import StepFailed, nearest

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

_ACTIVATIONS = {"Clip", "Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Relu", "Sigmoid"}
_POOLS = {"AveragePool", "GlobalAveragePool", "MaxPool", "Resize"}
_MOVERS = {"Expand", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze"}
_MOVERS |= {"Concat", "DepthToSpace", "SpaceToDepth", "Transpose", "Unsqueeze"}
_CARRIERS = _ACTIVATIONS | _POOLS | _MOVERS | {"Add", "BatchNormalization", "Mul", "Tanh"}

_DATA = dict.fromkeys(
    ("Expand", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Unsqueeze"), (0,)
) | {"Pad": (0, 2)}
"""Which inputs are values of the network; all of them for operators that are not named."""


def data_inputs(node: onnx.NodeProto) -> list[int]:
    """Positions of the inputs that are values, not shapes, indices or scales."""
    places = _DATA.get(node.op_type, range(len(node.input)))
    return [i for i in places if i < len(node.input) and node.input[i]]


def data_outputs(node: onnx.NodeProto) -> list[int]:
    """Positions of the outputs that are values; MaxPool's second are indices."""
    return list(range(len(node.output))) if node.op_type == "Split" else [0]


def network(graph: onnx.GraphProto, kept: Sequence[str]) -> list[int]:
    """Positions in `graph.node` of the network's nodes, without those named in `kept`."""
    made_by = {name: i for i, node in enumerate(graph.node) for name in node.output}
    held = set(kept)
    left = [i for i, node in enumerate(graph.node) if node.op_type in WEIGHTED]
    found = set(left)
    while left:
        node = graph.node[left.pop()]
        for place in data_inputs(node):
            i = made_by.get(node.input[place])
            if i is not None and i not in found and graph.node[i].op_type in _CARRIERS:
                found.add(i)
                left.append(i)
    return sorted(i for i in found if graph.node[i].name not in held)


def prepare(graph: onnx.GraphProto) -> None:
    """Give every node a name to keep it by.

    Raises:
        StepFailed: the network is not in fp32.
    """
    taken = {node.name for node in graph.node}
    for i, node in enumerate(graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{i}"
            while node.name in taken:
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
    """Names of the weighted nodes: what can be kept in fp32."""
    return [node.name for node in graph.node if node.op_type in WEIGHTED]


def matching(graph: onnx.GraphProto, patterns: Sequence[str]) -> list[str]:
    """The network's nodes whose names fit one of the patterns (shell's `*` and `?`).

    Raises:
        StepFailed: a pattern that fits none, which would keep nothing and not say so.
    """
    names = [graph.node[i].name for i in network(graph, ())]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise StepFailed(
                f"no layer is named {pattern!r}, to be kept in fp32{nearest(pattern, names[:200])}"
            )
    return [name for name in names if any(fnmatchcase(name, one) for one in patterns)]
