"""Features of boxes: mmcv's roi_align in PyTorch, the standard RoiAlign in a file."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import roi_align
from torch import Tensor


class RoiAlign(torch.autograd.Function):
    """Features of boxes, bilinear; ONNX's RoiAlign.

    features [N, C, H, W]; boxes [R, 4] in pixels of the network's input; images int64 [R].
    Returns [R, C, size, size].

    `aligned` moves the boxes by half a pixel of the feature map. From opset 16 on ONNX's own
    attribute says so; below, the boxes are moved here. (mmcv's symbolic moves them at every
    opset, so that from 16 on, where half_pixel is the default, they are moved twice.)
    Below 16 ONNX also takes boxes narrower than one feature pixel for one pixel wide.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, boxes: Tensor, images: Tensor, size: int, scale: float,
        sampling: int, aligned: bool,
    ) -> Tensor:  # fmt: skip
        rois = torch.cat([images.to(boxes.dtype).unsqueeze(1), boxes], 1)
        return roi_align(features, rois, (size, size), scale, sampling, "avg", aligned)

    @staticmethod
    def symbolic(
        g: Any, features: Any, boxes: Any, images: Any, size: int, scale: float, sampling: int,
        aligned: bool,
    ) -> Any:  # fmt: skip
        attributes = {
            "output_height_i": size,
            "output_width_i": size,
            "spatial_scale_f": scale,
            "sampling_ratio_i": max(0, sampling),
            "mode_s": "avg",
        }
        if g.opset >= 16:
            mode = "half_pixel" if aligned else "output_half_pixel"
            attributes["coordinate_transformation_mode_s"] = mode
        elif aligned:
            half = torch.tensor([0.5 / scale], dtype=torch.float32)
            boxes = g.op("Sub", boxes, g.op("Constant", value_t=half))
        return g.op("RoiAlign", features, boxes, images, **attributes)
