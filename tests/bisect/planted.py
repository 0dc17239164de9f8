"""A small detector as an ONNX graph, drawn by seed, and faults planted in copies of its file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, CHANNELS, TOP, CLASSES = 32, 8, 12, 3
KINDS = ("weight", "bf16", "roi_align", "pad")


@dataclass(frozen=True)
class Fault:
    """A file with a fault, and the name of the node that has it."""

    kind: str
    node: str
    model: onnx.ModelProto


class _Builder:
    """Appends nodes with names as torch's exporter gives them."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def const(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(
        self, kind: str, scope: str, *inputs: str, outputs: int = 1, **attributes: object
    ) -> str:
        name = f"/{scope}/{kind}" if scope else f"/{kind}_{len(self.nodes)}"
        made = [f"{name}_output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), made, name, **attributes))
        return made[0]

    def conv(self, scope: str, x: str, cin: int, cout: int, size: int = 3, stride: int = 1) -> str:
        spread = 1 / np.sqrt(cin * size * size)
        weight = self.random.normal(0, spread, (cout, cin, size, size)).astype(np.float32)
        bias = self.random.normal(0, 0.1, cout).astype(np.float32)
        w, b = self.const(f"{scope}.weight", weight), self.const(f"{scope}.bias", bias)
        pads = [size // 2] * 4
        return self.add(
            "Conv", scope, x, w, b, kernel_shape=[size, size], pads=pads, strides=[stride, stride]
        )


def detector(seed: int) -> onnx.ModelProto:
    """images [1, 3, 32, 32] -> dets [1, K, 5], labels [1, K]: residual blocks, a neck with two
    levels, a head on both, the best K of all positions, features around them, and a decoder."""
    b = _Builder(seed)
    x = b.add("Relu", "backbone/relu", b.conv("backbone/conv1", "images", 3, CHANNELS, stride=2))
    levels = []
    for i in (1, 2):
        block = f"backbone/layer{i}/layer{i}.0"
        left = b.add(
            "Relu", f"{block}/relu", b.conv(f"{block}/conv1", x, CHANNELS, CHANNELS, stride=i)
        )
        left = b.conv(f"{block}/conv2", left, CHANNELS, CHANNELS)
        right = b.conv(f"{block}/downsample", x, CHANNELS, CHANNELS, 1, i)
        x = b.add("Relu", f"{block}/relu_1", b.add("Add", block, left, right))
        levels.append(x)
    scales = b.const("scales", np.array([1, 1, 2, 2], np.float32))
    up = b.add("Resize", "neck", levels[1], "", scales, mode="nearest")
    merged = b.add("Concat", "neck", levels[0], up, axis=1)
    feature = b.conv("neck/fuse/conv", merged, 2 * CHANNELS, CHANNELS)
    feature = b.add("Mul", "neck/fuse/act", feature, b.add("Sigmoid", "neck/fuse/act", feature))
    scores = b.add("Sigmoid", "", b.conv("bbox_head/cls", feature, CHANNELS, CLASSES))
    boxes = b.conv("bbox_head/reg", feature, CHANNELS, 4)
    flat = b.const("flat", np.array([1, 1, -1], np.int64))
    best = b.add("ReduceMax", "", scores, axes=[1], keepdims=1)
    label = b.add("ArgMax", "", scores, axis=1, keepdims=1)
    ranked = b.add("Reshape", "", best, flat)
    k = b.const("k", np.array([TOP], np.int64))
    b.add("TopK", "", ranked, k, outputs=2, axis=2)
    top, places = b.nodes[-1].output
    four = b.const("four", np.array([1, 4, -1], np.int64))
    chosen = b.add("Gather", "", places, b.const("zero", np.array(0, np.int64)), axis=0)
    chosen = b.add("Squeeze", "", chosen, b.const("axis0", np.array([0], np.int64)))
    picked = b.add("Gather", "", b.add("Reshape", "", boxes, four), chosen, axis=2)
    labels = b.add("Gather", "", b.add("Reshape", "", label, flat), chosen, axis=2)
    rows = b.add("Transpose", "", picked, perm=[0, 2, 1])
    centre = b.add("Mul", "", b.add("Sigmoid", "", rows), b.const("extent", np.float32([8.0])))
    low, high = b.const("low", np.float32([2, 2, 0, 0])), b.const("high", np.float32([0, 0, 6, 6]))
    rois = b.add("Add", "", b.add("Add", "", centre, low), high)
    rois = b.add("Squeeze", "", rois, "axis0")
    batch = b.const("batch", np.zeros(TOP, np.int64))
    crops = b.add(
        "RoiAlign", "roi_head/extractor", feature, rois, batch, output_height=4, output_width=4,
        spatial_scale=1.0, sampling_ratio=2, coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    crops = b.add("Relu", "roi_head/convs.0/relu", b.conv("roi_head/convs.0", crops, CHANNELS, 4))
    flat_crops = b.add("Flatten", "roi_head", crops, axis=1)
    weight = b.random.normal(0, 0.1, (64, 4)).astype(np.float32)
    moved = b.add("Gemm", "roi_head/fc_reg", flat_crops, b.const("roi_head.fc_reg.weight", weight))
    final = b.add("Add", "", rois, moved)
    batched = b.add("Unsqueeze", "", final, "axis0")
    column = b.add("Transpose", "", top, perm=[0, 2, 1])
    b.nodes.append(helper.make_node("Concat", [batched, column], ["dets"], "/Concat_dets", axis=2))
    b.nodes.append(helper.make_node("Squeeze", [labels, "axis1"], ["labels"], "/Squeeze_labels"))
    b.const("axis1", np.array([1], np.int64))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    dets = helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, TOP, 5])
    out = helper.make_tensor_value_info("labels", TensorProto.INT64, [1, TOP])
    graph = helper.make_graph(b.nodes, "detector", [images], [dets, out], b.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def plant(model: onnx.ModelProto, kind: str, seed: int) -> Fault:
    """Return a copy of the file with a fault of this kind in a node chosen by seed."""
    made, random = onnx.ModelProto(), np.random.default_rng(seed)
    made.CopyFrom(model)
    nodes = [
        node
        for node in made.graph.node
        if node.op_type == ("RoiAlign" if kind == "roi_align" else "Conv")
    ]
    if kind == "pad":
        nodes = [node for node in nodes if _attribute(node, "pads").ints[0] == 1]
    node = nodes[random.integers(len(nodes))]
    _FAULTS[kind](made.graph, node, random)
    return Fault(kind, node.name, made)


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(one for one in node.attribute if one.name == name)


def _perturb(graph: onnx.GraphProto, node: onnx.NodeProto, random: np.random.Generator) -> None:
    """One of the layer's weights is off by half of the layer's largest."""
    weight = next(one for one in graph.initializer if one.name == node.input[1])
    values = numpy_helper.to_array(weight).copy()
    values.flat[random.integers(values.size)] += 0.5 * np.abs(values).max()
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def _in_bf16(graph: onnx.GraphProto, node: onnx.NodeProto, random: np.random.Generator) -> None:
    """The layer's input, weights and output are rounded to bf16."""
    at = [*graph.node].index(node)
    name = node.output[0]
    node.output[0] = f"{name}_exact"
    before = [cast for i in (0, 1) for cast in _rounded(node.input[i], f"{name}_in_{i}")]
    node.input[0], node.input[1] = f"{name}_in_0", f"{name}_in_1"
    nodes = [
        *graph.node[:at],
        *before,
        node,
        *_rounded(f"{name}_exact", name),
        *graph.node[at + 1 :],
    ]
    kept = [onnx.NodeProto.FromString(one.SerializeToString()) for one in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _rounded(value: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [value], [f"{result}_narrow"], to=TensorProto.BFLOAT16),
        helper.make_node("Cast", [f"{result}_narrow"], [result], to=TensorProto.FLOAT),
    ]


def _shift(graph: onnx.GraphProto, node: onnx.NodeProto, random: np.random.Generator) -> None:
    """RoIAlign samples half a pixel beside, or from larger regions."""
    if random.integers(2):
        _attribute(node, "coordinate_transformation_mode").s = b"output_half_pixel"
    else:
        _attribute(node, "spatial_scale").f = 1.05


def _pad(graph: onnx.GraphProto, node: onnx.NodeProto, random: np.random.Generator) -> None:
    """The padding of the layer lies on one side."""
    pads = _attribute(node, "pads")
    pads.ints[:] = [[0, 1, 2, 1], [1, 0, 1, 2], [2, 2, 0, 0]][random.integers(3)]


_FAULTS = {"weight": _perturb, "bf16": _in_bf16, "roi_align": _shift, "pad": _pad}
