"""Region proposals for the second stage, computed as in `RPNHead`."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from torch import Tensor

from farm.sources.mmdet.candidates import (
    Candidates,
    join,
    rows,
    suppress,
    suppression,
    take,
    top,
)
from farm.sources.mmdet.dense.coders import decode, priors
from farm.sources.mmdet.two_stage.parts import require, require_plain_coder


def check(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, dense_heads.RPNHead, ("get_bboxes", "_get_bboxes_single", "_bbox_post_process"))
    require_plain_coder(head)
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def proposals(head: Any, features: list[Tensor], limits: Tensor) -> Candidates:
    """Return the proposals of each image, best first; unused rows have score 0."""
    logits, deltas = head(features)
    return from_levels(head, logits, deltas, priors(head, logits), limits)


def from_levels(
    head: Any, logits: list[Tensor], deltas: list[Tensor], places: list[Tensor], limits: Tensor
) -> Candidates:
    """Decode as `RPNHead._get_bboxes_single`: `nms_pre` per level, suppressed within their level.

    places: the anchors of each level, [A, 4] or [N, A, 4].
    """
    levels = zip(logits, deltas, places, strict=True)
    found = join([best_of_level(head, i, *level, limits) for i, level in enumerate(levels)])
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    return suppress(large(found, head.test_cfg), how)


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


def large(found: Candidates, test_cfg: Any) -> Candidates:
    """Return the candidates with score 0 where a side is `min_bbox_size` or less."""
    if test_cfg.min_bbox_size < 0:
        return found
    size = found.boxes[..., 2:] - found.boxes[..., :2]
    counted = (size > test_cfg.min_bbox_size).all(2)
    scores = torch.where(counted, found.scores, torch.zeros_like(found.scores))
    return Candidates(found.boxes, scores, found.labels)
