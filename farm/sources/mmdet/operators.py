"""Operators with an ONNX name of their own: mmcv's code in PyTorch, the standard op in a file."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import nms, roi_align
from torch import Tensor


class NonMaxSuppression(torch.autograd.Function):
    """Greedy suppression per image; ONNX's NonMaxSuppression, with one class.

    boxes [N, M, 4] x1 y1 x2 y2; scores [N, 1, M], 0 for rows that do not take part.
    Returns int64 [S, 3]: image, 0, row; at most `keep` rows per image.
    """

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, keep: int, iou: float) -> Tensor:
        picked = [_picked(b, s[0], keep, iou) for b, s in zip(boxes, scores, strict=True)]
        rows = [torch.stack([torch.full_like(p, i), torch.zeros_like(p), p], 1)
                for i, p in enumerate(picked)]  # fmt: skip
        return torch.cat(rows)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, keep: int, iou: float) -> Any:
        picked = g.op(
            "NonMaxSuppression",
            boxes,
            scores,
            g.op("Constant", value_t=torch.tensor([keep], dtype=torch.int64)),
            g.op("Constant", value_t=torch.tensor([iou], dtype=torch.float32)),
            g.op("Constant", value_t=torch.tensor([0.0], dtype=torch.float32)),
        )
        return picked.setType(boxes.type().with_dtype(torch.int64).with_sizes([None, 3]))


def _picked(boxes: Tensor, scores: Tensor, keep: int, iou: float) -> Tensor:
    rows = (scores > 0).nonzero().squeeze(1)
    if not len(rows):
        return rows
    return rows[nms(boxes[rows], scores[rows], iou)[1][:keep]]


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
