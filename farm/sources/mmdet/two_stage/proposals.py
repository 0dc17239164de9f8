"""Region proposals for the second stage: `RPNHead`, `CascadeRPNHead` and `GARPNHead`."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from mmdet.models.dense_heads.cascade_rpn_head import CascadeRPNHead, StageCascadeRPNHead
from torch import Tensor

from farm.sources.mmdet.candidates import (
    Candidates,
    best_candidates,
    join,
    rows,
    suppress,
    suppression,
    take,
    top,
)
from farm.sources.mmdet.dense.anchors import anchors_of, check_guided
from farm.sources.mmdet.dense.coders import decode, level_priors
from farm.sources.mmdet.parts import require, require_plain_coder
from farm.specs import Suppression

_CASCADE_RULES = ("forward", "anchor_offset", "get_bboxes", "_get_bboxes_single", "refine_bboxes")


def check_rpn(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, dense_heads.RPNHead, ("get_bboxes", "_get_bboxes_single", "_bbox_post_process"))
    require_plain_coder(head)
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def rpn_proposals(head: Any, features: list[Tensor], limits: Tensor) -> Candidates:
    """Return the proposals of each image, best first; unused rows have score 0."""
    logits, deltas = head(features)
    return from_levels(head, logits, deltas, level_priors(head, logits), limits)


def from_levels(
    head: Any, logits: list[Tensor], deltas: list[Tensor], places: list[Tensor], limits: Tensor
) -> Candidates:
    """Decode as `RPNHead._get_bboxes_single`: `nms_pre` per level, suppressed within their level.

    places: the anchors of each level, [A, 4] or [N, A, 4].
    """
    levels = zip(logits, deltas, places, strict=True)
    found = join([best_of_level(head, i, *level, limits) for i, level in enumerate(levels)])
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    return suppress(without_small(found, head.test_cfg), how)


def best_of_level(
    head: Any, level: int, logits: Tensor, deltas: Tensor, places: Tensor, limits: Tensor,
    counts: Tensor | None = None,
) -> Candidates:  # fmt: skip
    """Select the best `nms_pre` of [N, A * C, h, w]; `counts` [N, A]: which anchors take part."""
    logits, deltas = rows(logits, head.cls_out_channels), rows(deltas, 4)
    scores = (logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1))[..., 0]
    if counts is not None:
        scores = torch.where(counts, scores, torch.zeros_like(scores))
    limit = head.test_cfg.get("nms_pre", -1)
    scores, index = top(scores, limit if limit > 0 else 1 << 40)
    chosen = take(places, index) if places.dim() == 3 else places[index]
    boxes = decode(head.bbox_coder, chosen, take(deltas, index), limits)
    return Candidates(boxes, scores, torch.full_like(index, level))


def without_small(found: Candidates, test_cfg: Any) -> Candidates:
    """Return the candidates with score 0 where a side is `min_bbox_size` or less."""
    if test_cfg.min_bbox_size < 0:
        return found
    size = found.boxes[..., 2:] - found.boxes[..., :2]
    counted = (size > test_cfg.min_bbox_size).all(2)
    scores = torch.where(counted, found.scores, torch.zeros_like(found.scores))
    return Candidates(found.boxes, scores, found.labels)


def check_cascade_rpn(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, CascadeRPNHead, ("simple_test_rpn",))
    for stage in head.stages:
        require(stage, StageCascadeRPNHead, _CASCADE_RULES)
        require_plain_coder(stage)
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def cascade_proposals(head: Any, features: list[Tensor], limits: Tensor) -> Candidates:
    """Return the proposals of each image, best first; unused rows have score 0."""
    images = features[0].shape[0]
    anchors = [level.expand(images, -1, -1) for level in level_priors(head.stages[0], features)]
    for stage in head.stages:
        offsets = _offsets(stage, features, anchors)
        features, logits, deltas = stage(features, offsets)
        if stage is not head.stages[-1]:
            anchors = [
                decode(stage.bbox_coder, anchor, rows(delta, 4), limits)
                for anchor, delta in zip(anchors, deltas, strict=True)
            ]
    return from_levels(head.stages[-1], logits, deltas, anchors, limits)


def _offsets(stage: Any, features: list[Tensor], anchors: list[Tensor]) -> list[Tensor] | None:
    if stage.adapt_cfg["type"] != "offset":
        return None
    levels = zip(features, anchors, stage.anchor_strides, strict=True)
    return [_offset(*level) for level in levels]


def _offset(feature: Tensor, anchors: Tensor, stride: int) -> Tensor:
    """`anchor_offset`: offsets from each cell's 3x3 neighbourhood to its anchor's grid.

    Returns [N, A, 18] with A = h * w, in cells, y before x.
    """
    height, width = feature.shape[-2:]
    x = torch.arange(width, device=feature.device).unsqueeze(0).expand(height, -1).flatten()
    y = torch.arange(height, device=feature.device).unsqueeze(1).expand(-1, width).flatten()
    own = torch.stack([y, x], 1).to(anchors.dtype)
    centre = (anchors[..., :2] + anchors[..., 2:]) * 0.5 / stride
    growth = (anchors[..., 2:] - anchors[..., :2]) / stride / 2 - 1
    taps = torch.arange(-1, 2, device=feature.device, dtype=anchors.dtype)
    taps = torch.stack([taps.repeat_interleave(3), taps.repeat(3)], 1)
    shift = centre[..., [1, 0]] - own
    return (growth[..., [1, 0]].unsqueeze(2) * taps + shift.unsqueeze(2)).flatten(2)


def check_guided_rpn(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, dense_heads.GARPNHead, ("forward_single", "_get_bboxes_single"))
    check_guided(head)
    require_plain_coder(head)
    if _guided_suppression(head, 1).decay is not None:
        raise ValueError("GARPNHead with soft-NMS: mmdet itself cannot run it")


def guided_proposals(head: Any, features: list[Tensor], limits: Tensor) -> Candidates:
    """Return the proposals of each image, best first; unused rows have score 0.

    As in `GARPNHead._get_bboxes_single`, they are suppressed per level, and across levels only if
    the config says so.
    """
    outs = head(features)
    sizes = [logits.shape[-2:] for logits in outs[0]]
    squares = head.square_anchor_generator.grid_priors(sizes, device=features[0].device)
    levels = list(zip(*outs, squares, strict=True))
    found = join([_guided_level(head, i, level, limits) for i, level in enumerate(levels)])
    keep = head.test_cfg.max_per_img
    if head.test_cfg.get("nms_across_levels", False):
        return suppress(found, _guided_suppression(head, keep))
    return best_candidates(found, found.scores, keep)


def _guided_suppression(head: Any, keep: int) -> Suppression:
    how = suppression(head.test_cfg, keep)
    return Suppression(how.iou, True, keep, how.decay)


def _guided_level(head: Any, index: int, level: tuple[Tensor, ...], limits: Tensor) -> Candidates:
    logits, deltas, shape, place, squares = level
    counts = rows(place, 1).sigmoid().squeeze(2) >= head.loc_filter_thr
    anchors = anchors_of(head, squares, rows(shape, 2))
    found = best_of_level(head, index, logits, deltas, anchors, limits, counts)
    return suppress(
        without_small(found, head.test_cfg), _guided_suppression(head, head.test_cfg.nms_post)
    )
