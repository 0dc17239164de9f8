"""TOOD: the head itself says scores and boxes."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models.dense_heads import TOODHead
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, join, rows, take
from farm.sources.mmdet.dense import levels


def check(head: Any) -> None:
    """Raises ValueError where its boxes are made by a rule that is not known here."""
    levels.check(head)
    for rule in ("forward", "deform_sampling", "anchor_center"):
        if getattr(type(head), rule) is not getattr(TOODHead, rule):
            raise ValueError(f"head {type(head).__name__} has its own {rule}, which is not known")


def tood(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`TOODHead._get_bboxes_single`: boxes in strides, clipped nowhere."""
    strides = [stride for stride, _ in head.prior_generator.strides]
    parts = zip(outs[0], outs[1], strides, strict=True)
    return join([_level(head, *part) for part in parts])


def _level(head: Any, scores: Tensor, boxes: Tensor, stride: int) -> Candidates:
    found = levels.best(head, scores, activated=True)
    boxes = take(rows(boxes, 4), found.prior) * stride
    return Candidates(boxes, found.scores, found.label)
