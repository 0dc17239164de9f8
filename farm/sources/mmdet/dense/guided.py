"""RetinaNet with Guided Anchoring: locations and shapes of anchors are predicted, too."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import numpy as np
import torch
from mmdet.core.bbox.coder import DeltaXYWHBBoxCoder
from mmdet.models.dense_heads import GuidedAnchorHead
from torch import Tensor

from farm.sources.mmdet.candidates import (
    POOL,
    Candidates,
    best_pairs,
    best_rows,
    decode,
    rows,
    take,
)

_GROWTH = -float(np.log(1e-6))
"""The largest growth of an anchor, as a ratio: `wh_ratio_clip` in mmdet."""


def check(head: Any) -> None:
    """Check that the head computes anchors as mmdet's own does.

    Raises:
        ValueError: it overrides a method, or its anchor coder is not known here.
    """
    for rule in ("get_anchors", "_get_guided_anchors_single"):
        if getattr(type(head), rule) is not getattr(GuidedAnchorHead, rule):
            raise ValueError(f"head {type(head).__name__} has its own {rule}, which is not known")
    if type(head.anchor_coder) is not DeltaXYWHBBoxCoder:
        raise ValueError(f"anchor coder {type(head.anchor_coder).__name__} is not known")


def guided(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `GuidedAnchorHead._get_bboxes_single`: locations over `loc_filter_thr` count."""
    sizes = [logits.shape[-2:] for logits in outs[0]]
    squares = head.square_anchor_generator.grid_priors(sizes, device=outs[0][0].device)
    levels = zip(outs[0], outs[1], outs[2], outs[3], squares, strict=True)
    parts = zip(*(_level(head, *level, limits) for level in levels), strict=True)
    boxes, scores = (torch.cat(part, 1) for part in parts)
    scores = torch.where(scores > head.test_cfg.score_thr, scores, torch.zeros_like(scores))
    best, row, label = best_pairs(scores, POOL)
    return Candidates(take(boxes, row), best, label)


def _level(
    head: Any, logits: Tensor, deltas: Tensor, shape: Tensor, place: Tensor, squares: Tensor,
    limits: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Boxes [N, P, 4] and scores [N, P, C] of the best `nms_pre` anchors; 0 for missing ones."""
    scores = rows(logits, head.cls_out_channels)
    scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)
    scores, deltas = scores[..., : head.num_classes], rows(deltas, 4)
    anchors = anchors_of(head, squares, rows(shape, 2))
    counts = rows(place, 1).sigmoid() >= head.loc_filter_thr
    scores = torch.where(counts, scores, torch.zeros_like(scores))
    if (limit := head.test_cfg.get("nms_pre", -1)) > 0:
        chosen = best_rows(scores, limit)
        scores, deltas, anchors = take(scores, chosen), take(deltas, chosen), take(anchors, chosen)
    return decode(head.bbox_coder, anchors, deltas, limits), scores


def anchors_of(head: Any, squares: Tensor, shape: Tensor) -> Tensor:
    """Decode anchors [N, P, 4] from squares [P, 4] and their growth [N, P, 2]; no clipping."""
    deltas = torch.cat([torch.zeros_like(shape), shape], -1)
    return decode(head.anchor_coder, squares, deltas, None, _GROWTH)
