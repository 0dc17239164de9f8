"""`HybridTaskCascadeRoIHead`: a cascade with semantic features and mask information flow."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from mmdet.models.roi_heads import mask_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates
from farm.sources.mmdet.two_stage import cascade, pooling
from farm.sources.mmdet.two_stage.masks import own_map, probabilities
from farm.sources.mmdet.two_stage.parts import require, require_extractor
from farm.sources.mmdet.two_stage.pooling import pool


def check(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, roi_heads.HybridTaskCascadeRoIHead, ("simple_test", "_bbox_forward"))
    cascade.check_boxes(head)
    if any(part.custom_activation for part in head.bbox_head):
        raise ValueError("HTC with an activation of its own cannot be exported yet")
    extractors = list(head.bbox_roi_extractor)
    if head.with_mask:
        for part in head.mask_head:
            require(part, mask_heads.HTCMaskHead, ("forward", "get_seg_masks"))
        if not head.mask_info_flow:
            raise ValueError("HTC without mask_info_flow: mmdet itself cannot run it")
        require_extractor(head.mask_roi_extractor[-1])
        extractors.append(head.mask_roi_extractor[-1])
    pooling.check(head, extractors)


def run(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor | None]:
    """Return the final boxes, and the mean of the masks [N, K, m, m] where there are mask heads."""
    semantic = head.semantic_head(features)[1] if head.with_semantic else None

    def pooled(extractor: Any, boxes: Tensor, task: str) -> Tensor:
        own = pool(extractor, features, boxes)
        if semantic is None or task not in head.semantic_fusion:
            return own
        return own + pooling.semantic(head, semantic, boxes, extractor)

    def predict(stage: int, boxes: Tensor) -> Any:
        return head.bbox_head[stage](pooled(head.bbox_roi_extractor[stage], boxes, "bbox"))

    found = cascade.through_stages(head, predict, found, limits)
    if not head.with_mask:
        return found, None
    shared = pooled(head.mask_roi_extractor[-1], found.boxes, "mask")
    maps, last = [], None
    for mask_head in head.mask_head:
        logits, last = mask_head(shared, last)
        maps.append(probabilities(own_map(mask_head, logits, found), found))
    return found, cascade.mean(maps)
