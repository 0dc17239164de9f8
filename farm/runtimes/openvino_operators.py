"""Standard operators that OpenVINO has, and its reader of ONNX does not know."""

from __future__ import annotations

from typing import Any

import openvino as ov
from openvino import opset8
from openvino.frontend.onnx import ConversionExtension


def core() -> ov.Core:
    """An OpenVINO that reads them."""
    known = ov.Core()
    known.add_extension(ConversionExtension("DeformConv", _deform_conv))
    return known


def _deform_conv(node: Any) -> list[ov.Output]:
    """ONNX's DeformConv (image, weight, offset[, bias[, mask]]), zero outside the image."""
    image, weight, offset, *rest = (node.get_input(i) for i in range(node.get_input_size()))
    bias, mask = rest[0] if rest else None, rest[1] if len(rest) > 1 else None
    pads = node.get_attribute("pads", [0, 0, 0, 0])
    out = opset8.deformable_convolution(
        image,
        offset,
        weight,
        strides=node.get_attribute("strides", [1, 1]),
        pads_begin=pads[:2],
        pads_end=pads[2:],
        dilations=node.get_attribute("dilations", [1, 1]),
        mask=mask,
        group=node.get_attribute("group", 1),
        deformable_group=node.get_attribute("offset_group", 1),
        bilinear_interpolation_pad=True,
    )
    if bias is not None:
        out = opset8.add(out, opset8.unsqueeze(bias, opset8.constant([0, 2, 3])))
    return list(out.outputs())
