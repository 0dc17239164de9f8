"""`SCNetRoIHead`: a cascade with one mask head, which also gets context and box features."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from mmdet.models.roi_heads import bbox_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates
from farm.sources.mmdet.two_stage import cascade, pooling
from farm.sources.mmdet.two_stage.masks import own_map, probabilities
from farm.sources.mmdet.two_stage.parts import require, require_extractor, require_mask_head
from farm.sources.mmdet.two_stage.pooling import pool


def check(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    rules = ("simple_test", "_bbox_forward", "_mask_forward", "_fuse_glbctx")
    require(head, roi_heads.SCNetRoIHead, rules)
    cascade.check_boxes(head)
    for part in head.bbox_head:
        require(part, bbox_heads.SCNetBBoxHead, ("forward",))
        if part.custom_activation:
            raise ValueError("SCNet with an activation of its own cannot be exported yet")
    require_mask_head(head.mask_head)
    require_extractor(head.mask_roi_extractor)
    if not head.with_feat_relay:
        raise ValueError("SCNet without feat_relay_head: mmdet itself cannot run it")
    pooling.check(head, [*head.bbox_roi_extractor, head.mask_roi_extractor])


def run(
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

    found = cascade.through_stages(head, predict, found, limits)
    last = pooled(head.bbox_roi_extractor[-1], found.boxes)
    relayed = head.feat_relay_head(head.bbox_head[-1](last, return_shared_feat=True)[2])
    logits = head.mask_head(pooled(head.mask_roi_extractor, found.boxes) + relayed)
    return found, probabilities(own_map(head.mask_head, logits, found), found)
