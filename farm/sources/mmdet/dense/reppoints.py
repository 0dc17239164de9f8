"""RepPoints: boxes around points, in strides from the place that they belong to."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, join, rows, take
from farm.sources.mmdet.dense.levels import best
from farm.sources.mmdet.dense.priors import priors


def reppoints(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`RepPointsHead._get_bboxes_single`: boxes are clipped to the network's input."""
    levels = zip(outs[0], outs[1], priors(head, outs[0]), head.point_strides, strict=True)
    return join([_level(head, *level, limits) for level in levels])


def _level(
    head: Any, logits: Tensor, boxes: Tensor, points: Tensor, stride: int, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    boxes = take(rows(boxes, 4), found.prior) * stride + points[found.prior].repeat(1, 1, 2)
    return Candidates(torch.minimum(boxes.clamp(min=0), limits), found.scores, found.label)
