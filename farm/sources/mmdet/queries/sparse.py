"""Sparse R-CNN and QueryInst: learned proposals that each stage refines."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import dense_heads, roi_heads
from mmdet.models.detectors import SparseRCNN
from mmdet.models.roi_heads import bbox_heads, mask_heads
from torch import Tensor, nn

from farm.sources.mmdet.candidates import Candidates, decode, take
from farm.sources.mmdet.parts import (
    limits,
    packed,
    require,
    require_binary_masks,
    require_extractor,
    require_plain_coder,
    require_test_path,
)
from farm.sources.mmdet.queries import best, corners
from farm.sources.mmdet.two_stage.pooling import pool
from farm.sources.mmdet.two_stage.regions import own_map, probabilities


class Sparse(nn.Module):
    """images float32 [N, 3, H, W] -> dets, labels(, masks [N, K, m, m]); see `graphs.graph`."""

    how = None

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, SparseRCNN)
        _check(model)
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head, size = self.model.roi_head, limits(images)
        features = self.model.extract_feat(images)
        boxes, queries = _proposals(self.model.rpn_head, images.shape[0], size)
        for extractor, stage in zip(head.bbox_roi_extractor, head.bbox_head, strict=True):
            pooled = pool(extractor, features, boxes)
            logits, deltas, queries, attention = stage(pooled, queries)
            boxes = decode(stage.bbox_coder, boxes, deltas, size)
        sigmoid = head.bbox_head[-1].loss_cls.use_sigmoid
        scores = logits.sigmoid() if sigmoid else logits.softmax(-1)[..., :-1]
        scores, row, labels = best(scores, head.test_cfg.max_per_img)
        found = Candidates(take(boxes, row), scores, labels)
        if not head.with_mask:
            return packed(found)
        return (*packed(found), _masks(head, features, found, take(attention, row)))


def _proposals(head: Any, images: Any, size: Tensor) -> tuple[Tensor, Tensor]:
    """`EmbeddingRPNHead`: boxes [N, P, 4] and features [N, P, C], the same for each image."""
    boxes = corners(head.init_proposal_bboxes.weight) * size
    features = head.init_proposal_features.weight
    return boxes.expand(images, -1, -1), features.expand(images, -1, -1)


def _masks(head: Any, features: list[Tensor], found: Candidates, queries: Tensor) -> Tensor:
    """Masks [N, K, m, m] of the selected queries only, where mmdet computes those of all."""
    pooled = pool(head.mask_roi_extractor[-1], features, found.boxes)
    logits = head.mask_head[-1](pooled, queries)
    return probabilities(own_map(head.mask_head[-1], logits, found), found)


def _check(model: Any) -> None:
    """Raises ValueError where a part of the model cannot be exported."""
    rules = ("simple_test_rpn", "_decode_init_proposals")
    require(model.rpn_head, dense_heads.EmbeddingRPNHead, rules)
    head = model.roi_head
    require(head, roi_heads.SparseRoIHead, ("simple_test", "_bbox_forward", "_mask_forward"))
    for stage in head.bbox_head:
        require(stage, bbox_heads.DIIHead, ("forward", "refine_bboxes", "regress_by_class"))
        require_plain_coder(stage)
    extractors = list(head.bbox_roi_extractor)
    if head.with_mask:
        require(head.mask_head[-1], mask_heads.DynamicMaskHead, ("forward", "get_seg_masks"))
        require_binary_masks(head)
        extractors.append(head.mask_roi_extractor[-1])
    for extractor in extractors:
        require_extractor(extractor)
