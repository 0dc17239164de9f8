"""`GARPNHead`: anchors whose places and shapes are predicted, as in Guided Anchoring."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.dense_heads import GARPNHead, GuidedAnchorHead
from torch import Tensor

from farm.sources.mmdet.candidates import (
    Candidates,
    Suppression,
    join,
    rows,
    suppress,
    suppression,
    take,
    top,
)
from farm.sources.mmdet.two_stage.parts import require, require_plain_coder
from farm.sources.mmdet.two_stage.proposals import best_of_level, large

_GROWTH = 13.815510557964274
"""The largest growth of an anchor, log(1e6): the rule's `wh_ratio_clip`."""


def check(head: Any) -> None:
    """Raises ValueError where it follows rules that are not known here."""
    require(head, GARPNHead, ("forward_single", "_get_bboxes_single"))
    require(head, GuidedAnchorHead, ("get_anchors", "_get_guided_anchors_single"))
    require_plain_coder(head)
    if _suppression(head, 1).decay is not None:
        raise ValueError("GARPNHead with soft-NMS: mmdet itself cannot run it")


def proposals(head: Any, features: list[Tensor], limits: Tensor) -> Candidates:
    """The proposals of each image, best first; rows beyond the found ones have score 0.

    `GARPNHead._get_bboxes_single`: suppressed per level, and not across where not asked for.
    """
    sizes = [feature.shape[-2:] for feature in features]
    squares = head.square_anchor_generator.grid_priors(sizes, device=features[0].device)
    levels = enumerate(zip(features, squares, strict=True))
    found = join([_level(head, i, *level, limits) for i, level in levels])
    keep = head.test_cfg.max_per_img
    if head.test_cfg.get("nms_across_levels", False):
        return suppress(found, _suppression(head, keep))
    scores, index = top(found.scores, keep)
    return Candidates(take(found.boxes, index), scores, found.labels.gather(1, index))


def _suppression(head: Any, keep: int) -> Suppression:
    how = suppression(head.test_cfg, keep)
    return Suppression(how.iou, True, keep, how.decay)


def _level(head: Any, index: int, feature: Tensor, squares: Tensor, limits: Tensor) -> Candidates:
    feature = head.rpn_conv(feature).relu()
    place, shape = head.conv_loc(feature), head.conv_shape(feature)
    # Everywhere: mmdet's masks only save work, and what they leave out is left out below.
    adapted = head.feature_adaption(feature, shape)
    counts = rows(place, 1).sigmoid().squeeze(2) >= head.loc_filter_thr
    anchors = _guided(head.anchor_coder, squares, rows(shape, 2))
    found = best_of_level(
        head, index, head.conv_cls(adapted), head.conv_reg(adapted), anchors, limits, counts
    )
    return suppress(large(found, head.test_cfg), _suppression(head, head.test_cfg.nms_post))


def _guided(coder: Any, squares: Tensor, shape: Tensor) -> Tensor:
    """squares [A, 4] and shape [N, A, 2] -> anchors [N, A, 4]."""
    growth = shape * shape.new_tensor(coder.stds[2:]) + shape.new_tensor(coder.means[2:])
    centre, size = (squares[:, :2] + squares[:, 2:]) * 0.5, squares[:, 2:] - squares[:, :2]
    half = size * growth.clamp(min=-_GROWTH, max=_GROWTH).exp() * 0.5
    return torch.cat([centre - half, centre + half], -1)
