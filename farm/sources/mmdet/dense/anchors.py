"""Heads whose priors are anchors, one score per class: RetinaNet, SSD, ATSS and their kin."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import (
    POOL,
    Candidates,
    best_pairs,
    best_rows,
    decode,
    join,
    rows,
    take,
)
from farm.sources.mmdet.dense.priors import priors


def anchors(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`BaseDenseHead._get_bboxes_single`: per level the best `nms_pre` pairs over `score_thr`.

    `nms_pre: -1` takes all (up to `POOL`); mmdet drops the lowest of each level then, by a slip.
    """
    places = priors(head, outs[0])
    factors = outs[2] if len(outs) > 2 else [None] * len(places)
    levels = zip(outs[0], outs[1], factors, places, strict=True)
    return join([_anchor_level(head, *level, limits) for level in levels])


def _anchor_level(
    head: Any, logits: Tensor, deltas: Tensor, factor: Tensor | None, priors: Tensor, limits: Tensor
) -> Candidates:
    limit = head.test_cfg.get("nms_pre", -1)
    logits, deltas = rows(logits, head.cls_out_channels), rows(deltas, 4)
    # A sigmoid keeps the order, so it is computed for the chosen rows only.
    scores = logits if head.use_sigmoid_cls else logits.softmax(-1)
    chosen = best_rows(scores[..., : head.num_classes], limit) if limit > 0 else _all_rows(scores)
    # The background is cut off after the gathering: OpenVINO folds the two into an invalid one.
    scores = take(scores, chosen)[..., : head.num_classes]
    scores = scores.sigmoid() if head.use_sigmoid_cls else scores
    scores, row, label = best_pairs(scores, limit if limit > 0 else POOL)
    chosen = chosen.gather(1, row)
    scores = torch.where(scores > head.test_cfg.score_thr, scores, torch.zeros_like(scores))
    if factor is not None:
        scores = scores * rows(factor, 1).flatten(1).gather(1, chosen).sigmoid()
    boxes = decode(head.bbox_coder, priors[chosen], take(deltas, chosen), limits)
    return Candidates(boxes, scores, label)


def _all_rows(scores: Tensor) -> Tensor:
    index = torch.arange(scores.shape[1], device=scores.device)
    return index.unsqueeze(0).expand(scores.shape[0], -1)
