"""int8 files on ONNX Runtime's CPU provider, whose x86 kernels are fast for unsigned values only.

It shifts signed values by itself, but not where several layers read one, and folds no ReLU into a
layer whose scale is symmetric; such layers it runs in fp32. Here every value is shifted by 128,
which changes no number; behind a ReLU, where nothing is negative, by nothing: what would have been
clipped at 127 steps is then clipped at 255. And since its int8 layers must end in int8, those that
end in an addition get the scales that `convert` left in the file's metadata. Layers followed by
another activation (a sigmoid, say) stay in fp32 between quantised values.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

_SCALES = "int8_scales_of_added_values"


def unsigned(path: Path) -> bytes:
    """The file with unsigned values in place of signed ones; weights stay as they are."""
    model = onnx.load(str(path))
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {one.name for one in graph.initializer}
    shifts = {
        node.input[2]: 0 if _never_negative(node.input[0], made_by) else 128
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in weights
    }
    for one in graph.initializer:
        if one.name in shifts:
            shifted = np.array(shifts[one.name], np.uint8)
            one.CopyFrom(numpy_helper.from_array(shifted, one.name))
    _quantise_added(model)
    del graph.value_info[:]  # the types in it are of before
    return bytes(model.SerializeToString())


def _quantise_added(model: onnx.ModelProto) -> None:
    told = {one.key: one.value for one in model.metadata_props}
    scales: dict[str, float] = json.loads(told.get(_SCALES, "{}"))
    graph = model.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        value = node.output[0]
        if value in scales:
            exact, narrow, scale, zero = (f"{value}_{word}" for word in ("exact", "q", "s", "z"))
            node.output[0] = exact
            graph.initializer.append(
                numpy_helper.from_array(np.array(scales[value], np.float32), scale)
            )
            graph.initializer.append(numpy_helper.from_array(np.array(128, np.uint8), zero))
            nodes.append(helper.make_node("QuantizeLinear", [exact, scale, zero], [narrow]))
            nodes.append(helper.make_node("DequantizeLinear", [narrow, scale, zero], [value]))
    del graph.node[:]
    graph.node.extend(nodes)


def _never_negative(value: str, made_by: dict[str, onnx.NodeProto]) -> bool:
    node = made_by.get(value)
    if node is not None and node.op_type == "MaxPool":
        return _never_negative(node.input[0], made_by)
    return node is not None and node.op_type == "Relu"
