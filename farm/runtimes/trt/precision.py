"""Which layers of a weakly typed network may be lowered below fp32, and which must not.

Scores and boxes are decoded, and suppressed, in fp32: half precision has 11 bits, so that a
coordinate of 1000 pixels is off by half a pixel, and neighbouring scores change places.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

_HEAVY = ("CONVOLUTION", "DECONVOLUTION", "FULLY_CONNECTED", "MATRIX_MULTIPLY")
"""Where the time goes: always lowered."""

_LIGHT = (
    "ACTIVATION", "CONCATENATION", "ELEMENTWISE", "IDENTITY", "NORMALIZATION", "PADDING",
    "PARAMETRIC_RELU", "POOLING", "REDUCE", "RESIZE", "SCALE", "SHUFFLE", "SLICE", "SOFTMAX",
    "UNARY",
)  # fmt: skip
"""Lowered where they lie before a heavy one: between two of them a cast to fp32 and back would
cost more than it saves. Those after the last are the decoding of scores and boxes."""


def keep_decoding(network: Any, library: Any) -> int:
    """Pin to fp32 all that is neither heavy nor on the way to a heavy layer; how many that are."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    free = _free(layers)
    return _pin((layer for i, layer in enumerate(layers) if i not in free), library)


def keep_types(network: Any, library: Any) -> int:
    """Pin to fp32 what the file itself has in fp32: a builder's flag allows it all to be lower."""
    layers = (network.get_layer(i) for i in range(network.num_layers))
    return _pin(layers, library)


def _free(layers: list[Any]) -> set[int]:
    """Backwards from the outputs: a light layer is free if something free takes what it gives."""
    takers: dict[str, list[int]] = defaultdict(list)
    for i, layer in enumerate(layers):
        for k in range(layer.num_inputs):
            if (tensor := layer.get_input(k)) is not None:
                takers[tensor.name].append(i)
    free: set[int] = set()
    for i in reversed(range(len(layers))):
        kind, given = layers[i].type.name, _outputs(layers[i])
        used = any(taker in free for tensor in given for taker in takers[tensor.name])
        if kind in _HEAVY or (kind in _LIGHT and used):
            free.add(i)
    return free


def _pin(layers: Any, library: Any) -> int:
    pinned = 0
    for layer in layers:
        floats = [
            k
            for k, tensor in enumerate(_outputs(layer))
            if tensor.dtype == library.DataType.FLOAT and not tensor.is_shape_tensor
        ]
        if floats and layer.type.name != "CONSTANT":
            layer.precision = library.DataType.FLOAT
            for k in floats:
                layer.set_output_type(k, library.DataType.FLOAT)
            pinned += 1
    return pinned


def _outputs(layer: Any) -> list[Any]:
    tensors = (layer.get_output(k) for k in range(layer.num_outputs))
    return [tensor for tensor in tensors if tensor is not None]
