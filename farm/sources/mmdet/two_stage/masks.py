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
    images, count = found.scores.shape[:2]
    pooled = pool(head.mask_roi_extractor, features, found.boxes)
    if head.with_shared_head:
        pooled = head.shared_head(pooled)
    logits = head.mask_head(pooled)
    size = logits.shape[2:]
    if not head.mask_head.class_agnostic:
        label = found.labels.reshape(-1, 1, 1, 1).expand(-1, 1, size[0], size[1])
        logits = logits.gather(1, label)
    return logits.sigmoid().reshape(images, count, size[0], size[1])
