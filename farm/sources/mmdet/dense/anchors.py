"""Heads that choose whole anchors of a level, then pairs of anchor and class of all levels.

PAA and LAD weight scores by a predicted IoU, and average boxes after suppression. With Guided
Anchoring, RetinaNet predicts the locations and shapes of its anchors, too.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from farm.sources.mmdet.dense.coders import level_priors

_LEAST_IOU, _WIDTH = 0.01, 0.025
"""Constants of `score_voting`: the least IoU of boxes that vote, and how IoU weights them."""


@dataclass(frozen=True)
class Voters(Candidates):
    """Candidates, and the boxes that vote on theirs, of which there may be more.

    voters [N, P, 4]; votes [N, P, C]: scores, 0 where a box does not vote for a class.
    """

    voters: Tensor
    votes: Tensor


def paa(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Voters:
    """Decode as `PAAHead._get_bboxes_single`; scores are geometric means of class score and IoU."""
    levels = zip(outs[0], outs[1], outs[2], level_priors(head, outs[0]), strict=True)
    parts = zip(*(_paa_level(head, *level, limits) for level in levels), strict=True)
    boxes, scores = (torch.cat(part, 1) for part in parts)
    scores = torch.where(scores > head.test_cfg.score_thr, scores, torch.zeros_like(scores))
    best, row, label = best_pairs(scores, POOL)
    return Voters(take(boxes, row), best, label, boxes, scores)


def _paa_level(
    head: Any, logits: Tensor, deltas: Tensor, quality: Tensor, priors: Tensor, limits: Tensor
) -> tuple[Tensor, Tensor]:
    """Boxes [N, P, 4] and scores [N, P, C] of the best `nms_pre` priors."""
    deltas = rows(deltas, 4)
    scores = rows(logits, head.cls_out_channels).sigmoid() * rows(quality, 1).sigmoid()
    scores = scores.sqrt()
    places = priors.expand_as(deltas)
    if (limit := head.test_cfg.get("nms_pre", -1)) > 0:
        chosen = best_rows(scores, limit)
        scores, deltas, places = take(scores, chosen), take(deltas, chosen), priors[chosen]
    return decode(head.bbox_coder, places, deltas, limits), scores


def voted(head: Any, found: Voters, kept: Candidates) -> Candidates:
    """Average boxes as `PAAHead.score_voting`: each survivor with overlapping boxes of its class.

    The weights are the boxes' scores and IoUs. A box of zero area overlaps nothing, not even
    itself: mmdet returns NaN for it, here it stays unchanged.
    """
    if not head.with_score_voting:
        return kept
    iou = _iou(kept.boxes, found.voters)
    label = kept.labels.unsqueeze(1).expand(-1, found.votes.shape[1], -1)
    votes = found.votes.gather(2, label).transpose(1, 2)
    weight = (-((1 - iou) ** 2) / _WIDTH).exp() * votes
    weight = torch.where(iou > _LEAST_IOU, weight, torch.zeros_like(weight))
    total = weight.sum(2, keepdim=True)
    mean = weight @ found.voters / total.clamp(min=1e-12)
    return Candidates(torch.where(total > 0, mean, kept.boxes), kept.scores, kept.labels)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """mmdet's `bbox_overlaps`: [N, K, 4] and [N, P, 4] -> [N, K, P]."""
    a, b = a.unsqueeze(2), b.unsqueeze(1)
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    overlap = _area(low, high)
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - overlap
    return overlap / union.clamp(min=1e-6)


def _area(low: Tensor, high: Tensor) -> Tensor:
    size = (high - low).clamp(min=0)
    return size[..., 0] * size[..., 1]


_GROWTH = -float(np.log(1e-6))
"""The largest growth of an anchor, as a ratio: `wh_ratio_clip` in mmdet."""


def check_guided(head: Any) -> None:
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
    parts = zip(*(_guided_level(head, *level, limits) for level in levels), strict=True)
    boxes, scores = (torch.cat(part, 1) for part in parts)
    scores = torch.where(scores > head.test_cfg.score_thr, scores, torch.zeros_like(scores))
    best, row, label = best_pairs(scores, POOL)
    return Candidates(take(boxes, row), best, label)


def _guided_level(
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
