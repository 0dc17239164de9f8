"""Heads that say how far each side of a box is as a distribution: GFL and LD."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, join, rows, take
from farm.sources.mmdet.dense.coders import centre, decode
from farm.sources.mmdet.dense.levels import best
from farm.sources.mmdet.dense.priors import priors


def gfl(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`GFLHead._get_bboxes_single`: distances in strides, from the anchors' centres."""
    strides = [stride for stride, _ in head.prior_generator.strides]
    levels = zip(outs[0], outs[1], priors(head, outs[0]), strides, strict=True)
    return join([_level(head, *level, limits) for level in levels])


def _level(
    head: Any, logits: Tensor, sides: Tensor, priors: Tensor, stride: int, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    sides = take(rows(sides, 4 * (head.reg_max + 1)), found.prior)
    distances = head.integral(sides).view_as(sides[..., :4]) * stride
    boxes = decode(head.bbox_coder, centre(priors)[found.prior], distances, limits)
    return Candidates(boxes, found.scores, found.label)
