"""ONNX files with further outputs, and with given values in place of what some nodes make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from farm.bisect.differences import Array

REDUCED = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}

_AS_FP32 = "__as_fp32"
_REPLACED = "__replaced"
SHAPE = "__shape"
"""At the end of the name of an output that holds a value's shape."""


def marked(
    model: onnx.ModelProto,
    names: Mapping[str, str],
    types: Mapping[str, int],
    pins: Mapping[str, Array],
) -> onnx.ModelProto:
    """Return a copy of a file whose outputs are these values.

    names: from each value to the output that holds it. types: ONNX's element types of the values.
    pins: values that are given, and no more computed.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    _pin(graph, pins)
    _widen(graph, [name for value, name in names.items() if name != value])
    del graph.output[:]
    for value, name in names.items():
        kind = types[value] if name == value else TensorProto.FLOAT
        graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return made


def names_in(model: onnx.ModelProto, precision: str, values: Iterable[str]) -> dict[str, str]:
    """Return how a file in a precision calls the output for each value of the fp32 file.

    A value that exists in the lower precision alone is widened. One that it does not have is left
    out.
    """
    there = {name for node in model.graph.node for name in node.output}
    found = {}
    for value in values:
        reduced = f"{value}_{precision}"
        if value in there:
            found[value] = value
        elif precision in REDUCED and reduced in there:
            found[value] = reduced + _AS_FP32
    return found


def shaped(model: onnx.ModelProto, values: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of a file whose outputs are the shapes of these values, named with `SHAPE`."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    for value in values:
        name = value + SHAPE
        made.graph.node.append(helper.make_node("Shape", [value], [name]))
        made.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, None))
    return made


def _pin(graph: onnx.GraphProto, pins: Mapping[str, Array]) -> None:
    for node in graph.node:
        for i, name in enumerate(node.output):
            if name in pins:
                node.output[i] = name + _REPLACED
    for name, values in pins.items():
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _widen(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    for name in names:
        source = name.removesuffix(_AS_FP32)
        graph.node.append(helper.make_node("Cast", [source], [name], to=TensorProto.FLOAT))
