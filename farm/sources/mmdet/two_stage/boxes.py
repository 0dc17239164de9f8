"""The final boxes from the proposals: one box head, as in Faster R-CNN."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import (
    POOL,
    Candidates,
    Suppression,
    best_pairs,
    decode,
    suppress,
    take,
)
from farm.sources.mmdet.two_stage.pooling import pool


def detections(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor, how: Suppression
) -> Candidates:
    """`BBoxHead.get_bboxes` and `multiclass_nms` on the proposals of each image."""
    images, count = found.scores.shape[:2]
    pooled = pool(head.bbox_roi_extractor, features, found.boxes)
    if head.with_shared_head:
        pooled = head.shared_head(pooled)
    logits, deltas = head.bbox_head(pooled)
    scores = logits.softmax(-1)[:, :-1].reshape(images, count, -1)
    passed = (scores > head.test_cfg.score_thr) & (found.scores > 0).unsqueeze(2)
    scores = torch.where(passed, scores, torch.zeros_like(scores))
    scores, row, label = best_pairs(scores, POOL)
    deltas = deltas.reshape(images, -1, 4)
    own = row if head.bbox_head.reg_class_agnostic else row * head.bbox_head.num_classes + label
    boxes = decode(head.bbox_head.bbox_coder, take(found.boxes, row), take(deltas, own), limits)
    return suppress(Candidates(boxes, scores, label), how)
