"""`CascadeRoIHead` and its variants (Cascade R-CNN, HTC, SCNet): each stage refines the boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from mmdet.models.roi_heads import bbox_heads, mask_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, suppression
from farm.sources.mmdet.parts import require, require_box_head, require_extractor, require_mask_head
from farm.sources.mmdet.two_stage import pooling
from farm.sources.mmdet.two_stage.pooling import pool
from farm.sources.mmdet.two_stage.regions import final, own_map, probabilities, refined

Predict = Callable[[int, Tensor], tuple[Tensor, Any]]
"""Takes a stage's index and its regions [N, R, 4]; returns the outputs of its box head."""


def check_cascade(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, roi_heads.CascadeRoIHead, ("simple_test", "_bbox_forward", "_mask_forward"))
    check_boxes(head)
    if head.with_mask:
        for part in head.mask_head:
            require_mask_head(part)
        for part in head.mask_roi_extractor:
            require_extractor(part)


def check_boxes(head: Any) -> None:
    """Check that the box heads can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    for part in head.bbox_head:
        require_box_head(part)
    for part in head.bbox_roi_extractor:
        require_extractor(part)
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def run_cascade(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor | None]:
    """Return the final boxes, and the mean of the masks [N, K, m, m] where there are mask heads."""

    def predict(stage: int, boxes: Tensor) -> tuple[Tensor, Any]:
        predicted = head.bbox_head[stage](pool(head.bbox_roi_extractor[stage], features, boxes))
        return predicted[0], predicted[1]

    found = through_stages(head, predict, found, limits)
    if not head.with_mask:
        return found, None
    maps = []
    for mask_head, extractor in zip(head.mask_head, head.mask_roi_extractor, strict=True):
        logits = mask_head(pool(extractor, features, found.boxes))
        maps.append(probabilities(own_map(mask_head, logits, found), found))
    return found, mean(maps)


def through_stages(head: Any, predict: Predict, found: Candidates, limits: Tensor) -> Candidates:
    """Return the final boxes: those of the last stage, with the mean of all stages' logits."""
    every = []
    for stage, box_head in enumerate(head.bbox_head):
        logits, regression = predict(stage, found.boxes)
        every.append(logits)
        if stage < head.num_stages - 1:
            boxes = refined(box_head, found.boxes, logits, regression, limits)
            found = Candidates(boxes, found.scores, found.labels)
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    return final(head.bbox_head[-1], head.test_cfg, found, mean(every), regression, limits, how)


def mean(parts: list[Tensor]) -> Tensor:
    """Return the mean of tensors of equal shape, added one by one as mmdet does."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total / float(len(parts))


def check_htc(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, roi_heads.HybridTaskCascadeRoIHead, ("simple_test", "_bbox_forward"))
    check_boxes(head)
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


def run_htc(
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

    found = through_stages(head, predict, found, limits)
    if not head.with_mask:
        return found, None
    shared = pooled(head.mask_roi_extractor[-1], found.boxes, "mask")
    maps, last = [], None
    for mask_head in head.mask_head:
        logits, last = mask_head(shared, last)
        maps.append(probabilities(own_map(mask_head, logits, found), found))
    return found, mean(maps)


def check_scnet(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    rules = ("simple_test", "_bbox_forward", "_mask_forward", "_fuse_glbctx")
    require(head, roi_heads.SCNetRoIHead, rules)
    check_boxes(head)
    for part in head.bbox_head:
        require(part, bbox_heads.SCNetBBoxHead, ("forward",))
        if part.custom_activation:
            raise ValueError("SCNet with an activation of its own cannot be exported yet")
    require_mask_head(head.mask_head)
    require_extractor(head.mask_roi_extractor)
    if not head.with_feat_relay:
        raise ValueError("SCNet without feat_relay_head: mmdet itself cannot run it")
    pooling.check(head, [*head.bbox_roi_extractor, head.mask_roi_extractor])


def run_scnet(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor]:
    """Return the final boxes and their masks [N, K, m, m]."""
    semantic = head.semantic_head(features)[1] if head.with_semantic else None
    context = head.glbctx_head(features)[1] if head.with_glbctx else None

    def pooled(extractor: Any, boxes: Tensor) -> Tensor:
        own = pool(extractor, features, boxes)
        if semantic is not None:
            own = own + pooling.semantic(head, semantic, boxes, extractor)
        return own if context is None else pooling.with_context(own, context)

    def predict(stage: int, boxes: Tensor) -> Any:
        return head.bbox_head[stage](pooled(head.bbox_roi_extractor[stage], boxes))

    found = through_stages(head, predict, found, limits)
    last = pooled(head.bbox_roi_extractor[-1], found.boxes)
    relayed = head.feat_relay_head(head.bbox_head[-1](last, return_shared_feat=True)[2])
    logits = head.mask_head(pooled(head.mask_roi_extractor, found.boxes) + relayed)
    return found, probabilities(own_map(head.mask_head, logits, found), found)
