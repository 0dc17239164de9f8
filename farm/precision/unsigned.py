"""int8 values as unsigned ones, which x86 kernels are made for.

`convert` writes signed values with the zero point 0, as TensorRT wants them. Shifted by 128 they
are the same numbers; behind a ReLU, where nothing is negative, they are shifted by nothing: what
would have been clipped at 127 steps is then clipped at 255.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper


def shifted(path: Path) -> onnx.ModelProto:
    """Return the file with every quantised value unsigned; weights stay as they are."""
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
    del graph.value_info[:]  # its types are those before the change
    return model


def _never_negative(value: str, made_by: dict[str, onnx.NodeProto]) -> bool:
    node = made_by.get(value)
    if node is not None and node.op_type == "MaxPool":
        return _never_negative(node.input[0], made_by)
    return node is not None and node.op_type == "Relu"
