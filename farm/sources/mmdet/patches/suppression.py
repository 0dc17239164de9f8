"""Greedy NMS and soft-NMS, in PyTorch and as standard ONNX operators."""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import nms
from torch import Tensor

if TYPE_CHECKING:
    from farm.specs import Decay

METHODS = ("naive", "linear", "gaussian")


class NonMaxSuppression(torch.autograd.Function):
    """Greedy suppression per image, exported as ONNX's NonMaxSuppression with one class.

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


def soft_nms(boxes: Tensor, scores: Tensor, keep: int, decay: Decay) -> Tensor:
    """Compute `mmcv.ops.soft_nms` per image: a box's score when it is picked, 0 if it never is.

    boxes [N, M, 4] x1 y1 x2 y2; scores [N, M], 0 for rows that do not take part.

    Scores never increase, so the first `keep` rounds pick the same boxes that mmdet keeps after all
    rounds. Of equal scores the first row is picked (in mmcv it depends on the order of swaps). An
    IoU of 0 / 0, between boxes of zero area, counts as 0; with mmcv's gaussian the score is NaN.
    """
    method = METHODS.index(decay.method)
    return _rounds()(
        boxes, scores, keep, method, decay.iou, decay.sigma, decay.min_score, float(decay.offset)
    )


def _soft_nms(
    boxes: Tensor, scores: Tensor, keep: int, method: int, iou: float, sigma: float,
    min_score: float, offset: float,
) -> Tensor:  # fmt: skip
    areas = (boxes[:, :, 2:] - boxes[:, :, :2] + offset).prod(2)
    row = torch.arange(scores.size(1), device=scores.device).unsqueeze(0)
    picked = torch.zeros_like(scores)
    left = scores
    for _ in range(keep):
        best, index = left.max(1, keepdim=True)
        box = boxes.gather(1, index.unsqueeze(2).expand(-1, -1, 4))
        low = torch.maximum(boxes[:, :, :2], box[:, :, :2])
        high = torch.minimum(boxes[:, :, 2:], box[:, :, 2:])
        inner = (high - low + offset).clamp(min=0.0).prod(2)
        overlap = inner / (areas.gather(1, index) + areas - inner)
        overlap = torch.where(inner > 0, overlap, torch.zeros_like(overlap))
        if method == 0:
            weight = (overlap < iou).to(scores.dtype)
        elif method == 1:
            weight = torch.where(overlap >= iou, 1 - overlap, torch.ones_like(overlap))
        else:
            weight = torch.exp(-(overlap * overlap) / sigma)
        own = (row == index) & (best > 0)  # no candidate remains if the best is 0
        picked = torch.where(own, best, picked)
        left = left * weight
        left = torch.where(own | (left < min_score), torch.zeros_like(left), left)
    return picked


@cache
def _rounds() -> Any:
    """The loop, scripted, since tracing would unroll it; torch's deprecation warning is ignored."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return torch.jit.script(_soft_nms)
