"""Networks: read from ONNX files, and which of their layers may be below fp32.

Scores and boxes are decoded, and suppressed, in fp32: half precision has 11 bits, so that a
coordinate of 1000 pixels is off by half a pixel, and neighbouring scores swap ranks.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from farm.errors import StepFailed
from farm.runtimes.tensorrt.api import Version, logger

_HEAVY = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED", "MATRIX_MULTIPLY")
"""Where the time goes: always in reduced precision."""

_LIGHT = (
    "ACTIVATION", "CONCATENATION", "ELEMENTWISE", "IDENTITY", "NORMALIZATION", "PADDING",
    "PARAMETRIC_RELU", "POOLING", "REDUCE", "RESIZE", "SCALE", "SHUFFLE", "SLICE", "SOFTMAX",
    "SQUEEZE", "UNARY", "UNSQUEEZE",
)  # fmt: skip
"""In reduced precision before a heavy one: between two of them a cast to fp32 and back would cost
more than it saves. Those after the last are the decoding of scores and boxes."""


def parse(library: Any, version: Version, network: Any, onnx: Path) -> None:
    """Fill the network, which then keeps the parser. Raises StepFailed with all its errors."""
    log = logger(library)
    parser = library.OnnxParser(network, log)
    if version.native_instancenorm:
        parser.set_flag(library.OnnxParserFlag.NATIVE_INSTANCENORM)
    if not parser.parse_from_file(str(onnx)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        raise StepFailed(
            _format_errors(f"{library.__name__} {library.__version__}", errors, log.errors)
        )


_BRANCHES = "its branches differ in rank (a `squeeze` of a free axis): use a fixed shape"
_EARLIER = (
    "end the graph before it: in a matrix with postprocess: host or none, alone with `farm export"
    " --skip-postprocess`"
)
_ADVICE = {
    "If": _BRANCHES,
    "If_OutputLayer": _BRANCHES,
    "NonMaxSuppression": _EARLIER,
    "NonZero": _EARLIER,
    "RoiAlign": "two-stage models need a runtime that has it, as onnxruntime or tensorrt",
    "DeformConv": "models of deformable convolutions need a runtime that has it",
    "TopK": "K must be below 3840: lower the model's nms_pre",
}


def advice(text: str) -> list[str]:
    """Return what to do about the operators that an error names."""
    named = (name for name in _ADVICE if name == text or (name in text and len(name) > 3))
    return [f"  -> {name}: {_ADVICE[name]}" for name in named]


def _format_errors(library: str, errors: list[Any], logged: list[str]) -> str:
    """Format all errors in full."""
    lines = [f"{library} cannot read the ONNX file:"]
    for error in errors:
        name, operator = _node(error, "\n".join(logged))
        where = f"node {error.node()}" + f" {name!r}" * bool(name)
        lines.append(f"{where} ({operator or 'operator unknown'}): {error.code().name}")
        lines.append(f"  {error.desc()} [{error.func()}, {error.file()}:{error.line()}]")
        lines += advice(operator)
    if not errors or not hasattr(errors[0], "node_name"):
        lines += [f"  log: {text}" for text in logged]
    return "\n".join(lines)


def _node(error: Any, log: str) -> tuple[str, str]:
    """The node's name and operator; up to 8.6 only the log has them."""
    if hasattr(error, "node_name"):
        return error.node_name(), error.node_operator()
    section = log.partition(f"While parsing node number {error.node()} ")[2]
    operator = re.match(r"\[(\w+)", section)
    name = re.search(r'^name: "(.*)"', section, re.MULTILINE)
    return (name[1] if name else ""), (operator[1] if operator else "")


def keep_decoding(network: Any, library: Any) -> int:
    """Pin to fp32 all layers that are neither heavy nor before a heavy one; return how many."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    free = reducible(layers)
    return _pin((layer for i, layer in enumerate(layers) if i not in free), library)


def keep_types(network: Any, library: Any) -> int:
    """Pin to fp32 the layers that are fp32 in the file; return how many.

    The builder's flag would allow all of them a reduced precision.

    Raises:
        StepFailed: all layers are fp32 for TensorRT, so that the engine would be in fp32.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    heavy = [layer for layer in layers if layer.type.name in _HEAVY]
    if heavy and all(_is_float(one, library) for layer in heavy for one in _outputs(layer)):
        raise StepFailed(
            f"all {len(heavy)} convolutions and matrix products of the file are fp32 for TensorRT "
            f"{library.__version__}"
        )
    return _pin(layers, library)


def reducible(layers: list[Any]) -> set[int]:
    """Return the indices of the layers that may have a reduced precision.

    Backwards from the outputs: a light layer is one of them if another of them reads its output.
    """
    takers: dict[str, list[int]] = defaultdict(list)
    for i, layer in enumerate(layers):
        for tensor in _inputs(layer):
            takers[tensor.name].append(i)
    free: set[int] = set()
    for i in reversed(range(len(layers))):
        kind, outputs = layers[i].type.name, _outputs(layers[i])
        used = any(taker in free for tensor in outputs for taker in takers[tensor.name])
        if kind in _HEAVY or (kind in _LIGHT and used):
            free.add(i)
    return free


def _pin(layers: Any, library: Any) -> int:
    """Pin the layers that compute with floats to fp32; return how many. (NMS only reads floats.)"""
    pinned = 0
    for layer in layers:
        outputs = [k for k, tensor in enumerate(_outputs(layer)) if _is_float(tensor, library)]
        if outputs or any(_is_float(tensor, library) for tensor in _inputs(layer)):
            pinned += _pin_one(layer, outputs, library)
    return pinned


def _pin_one(layer: Any, outputs: list[int], library: Any) -> bool:
    """Pin one layer, unless its type is fixed: casts, constants, shapes and integers."""
    kinds, first = library.DataType, next(iter(_inputs(layer)), None)
    fixed = layer.type.name in _TYPED or layer.precision in (kinds.INT32, kinds.BOOL)
    if fixed or (first is not None and first.is_shape_tensor):
        return False
    layer.precision = kinds.FLOAT
    for k in outputs:
        layer.set_output_type(k, kinds.FLOAT)
    return True


_TYPED = ("CAST", "CONSTANT", "DEQUANTIZE", "QUANTIZE", "SHAPE")


def _is_float(tensor: Any, library: Any) -> bool:
    return bool(tensor.dtype == library.DataType.FLOAT and not tensor.is_shape_tensor)


def _inputs(layer: Any) -> list[Any]:
    tensors = (layer.get_input(k) for k in range(layer.num_inputs))
    return [tensor for tensor in tensors if tensor is not None]


def _outputs(layer: Any) -> list[Any]:
    tensors = (layer.get_output(k) for k in range(layer.num_outputs))
    return [tensor for tensor in tensors if tensor is not None]
