"""Greedy suppression: mmcv's nms in PyTorch, NonMaxSuppression in a file."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import nms
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
