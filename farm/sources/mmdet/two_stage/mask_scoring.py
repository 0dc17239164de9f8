"""`MaskScoringRoIHead`: masks have their own scores, as in Mask Scoring R-CNN."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from mmdet.models.roi_heads import mask_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, suppression
from farm.sources.mmdet.two_stage import standard
from farm.sources.mmdet.two_stage.boxes import detections
from farm.sources.mmdet.two_stage.masks import mask_features, own_map, probabilities
from farm.sources.mmdet.two_stage.parts import require


def check(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    standard.check(head)
    require(head, roi_heads.MaskScoringRoIHead, ("simple_test_mask", "_mask_forward"))
    require(head.mask_iou_head, mask_heads.MaskIoUHead, ("forward", "get_mask_scores"))
    if head.mask_head.class_agnostic:
        raise ValueError("a mask IoU head on class-agnostic masks: mmdet itself cannot run it")


def run(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor, Tensor]:
    """Return the final boxes, their masks [N, K, m, m], and the scores of the masks [N, K]."""
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = detections(head, features, found, limits, how)
    pooled = mask_features(head, features, found)
    logits = own_map(head.mask_head, head.mask_head(pooled), found)
    overlap = head.mask_iou_head(pooled, logits.squeeze(1))
    overlap = overlap.gather(1, found.labels.reshape(-1, 1)).reshape(found.scores.shape)
    return found, probabilities(logits, found), overlap * found.scores
