"""bf16 files on ONNX Runtime's CPU provider, which has no bf16 kernel but that of Cast.

Every bf16 node runs in fp32 between casts: its inputs widened, its result rounded to bf16. Values
are what bf16 kernels with fp32 sums would give; the time is more than fp32's, not less. (fp16
files need nothing: ONNX Runtime widens them itself where it has no kernel.)
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def emulated(path: Path) -> bytes:
    """The file with every bf16 node in fp32 between casts."""
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
