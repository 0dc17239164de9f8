"""Masks of the final boxes: probabilities inside each box, pasted after the engine."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates
from farm.sources.mmdet.two_stage.pooling import pool


def masks(head: Any, features: list[Tensor], found: Candidates) -> Tensor:
    """`FCNMaskHead` on the final boxes: probabilities [N, K, m, m] for each row's own label."""
    logits = head.mask_head(mask_features(head, features, found))
    return probabilities(own_map(head.mask_head, logits, found), found)


def mask_features(head: Any, features: list[Tensor], found: Candidates) -> Tensor:
    """`_mask_forward`: what the mask head is given, [N * K, C, size, size]."""
    pooled = pool(head.mask_roi_extractor, features, found.boxes)
    return head.shared_head(pooled) if head.with_shared_head else pooled


def own_map(mask_head: Any, logits: Tensor, found: Candidates) -> Tensor:
    """Of [N * K, classes, m, m] each row's own label: [N * K, 1, m, m]."""
    if mask_head.class_agnostic:
        return logits
    label = found.labels.reshape(-1, 1, 1, 1)
    return logits.gather(1, label.expand(-1, 1, logits.shape[2], logits.shape[3]))


def probabilities(logits: Tensor, found: Candidates) -> Tensor:
    """[N * K, 1, m, m] -> [N, K, m, m]."""
    images, count = found.scores.shape[:2]
    return logits.sigmoid().reshape(images, count, logits.shape[2], logits.shape[3])
