"""Files for ONNX Runtime's CPU provider: bf16 nodes between casts, int8 values unsigned.

bf16: the only bf16 kernel of the provider is Cast. Every bf16 node runs in fp32 between casts:
its inputs widened, its result rounded to bf16. Values are what bf16 kernels with fp32 sums would
give; the time is more than fp32's, not less. (fp16 files need nothing: ONNX Runtime widens them
itself where it has no kernel.)

int8: the x86 kernels are fast for unsigned values only. ONNX Runtime shifts signed values by
itself, but not where several layers read one, and folds no ReLU into a layer whose scale is
symmetric; such layers it runs in fp32. Here every value is unsigned (`precision/unsigned.py`). And
since its int8 layers must end in int8, those that end in an addition get the scales that `convert`
wrote into the file's metadata. Layers followed by another activation, such as a sigmoid, stay in
fp32 between quantised values.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from farm.precision.unsigned import shifted

_SCALES = "int8_scales_of_added_values"


def emulated(path: Path) -> bytes:
    """Return the file with every bf16 node in fp32 between casts."""
    model = onnx.load(str(path))
    graph = model.graph
    narrow = {one.name for one in graph.initializer if one.data_type == TensorProto.BFLOAT16}
    nodes: list[onnx.NodeProto] = []
    widened: set[str] = set()
    for node in graph.node:
        if node.op_type == "Cast":
            nodes.append(node)
            if _target(node) == TensorProto.BFLOAT16:
                narrow.add(node.output[0])
        elif reads := narrow.intersection(node.input):
            new = sorted(reads - widened)
            nodes += [_cast(name, _wide(name), TensorProto.FLOAT) for name in new]
            widened |= reads
            nodes += _in_fp32(node, reads)
            narrow.update(_values(node))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _in_fp32(node: onnx.NodeProto, reads: set[str]) -> list[onnx.NodeProto]:
    wide = onnx.NodeProto()
    wide.CopyFrom(node)
    for i, name in enumerate(node.input):
        wide.input[i] = _wide(name) if name in reads else name
    rounded = []
    for i, name in enumerate(_values(node)):
        wide.output[i] = f"{name}_exact"
        rounded.append(_cast(f"{name}_exact", name, TensorProto.BFLOAT16))
    return [wide, *rounded]


def _values(node: onnx.NodeProto) -> list[str]:
    """Outputs of the inputs' type: MaxPool's second are indices."""
    return list(node.output[:1]) if node.op_type == "MaxPool" else list(node.output)


def _wide(name: str) -> str:
    return f"{name}_as_fp32"


def _cast(source: str, result: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], f"{result}_cast", to=to)


def _target(cast: onnx.NodeProto) -> int:
    return next(int(one.i) for one in cast.attribute if one.name == "to")


def unsigned(path: Path) -> bytes:
    """Return the file with unsigned values in place of signed ones; weights stay as they are."""
    model = shifted(path)
    _quantise_added(model)
    return bytes(model.SerializeToString())


def _quantise_added(model: onnx.ModelProto) -> None:
    metadata = {one.key: one.value for one in model.metadata_props}
    scales: dict[str, float] = json.loads(metadata.get(_SCALES, "{}"))
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
