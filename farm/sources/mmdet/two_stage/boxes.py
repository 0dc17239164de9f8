"""Decodes a box head's outputs: to final boxes, and to regions of the next stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.roi_heads.bbox_heads import SABLHead
from torch import Tensor

from farm.sources.mmdet.candidates import POOL, Candidates, best_pairs, suppress, take
from farm.sources.mmdet.dense import coders
from farm.sources.mmdet.dense.coders import decode
from farm.sources.mmdet.two_stage.pooling import pool

if TYPE_CHECKING:
    from farm.specs import Suppression


def detections(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor, how: Suppression
) -> Candidates:
    """Return the final boxes of a RoI head with one box head, from each image's proposals."""
    pooled = pool(head.bbox_roi_extractor, features, found.boxes)
    if head.with_shared_head:
        pooled = head.shared_head(pooled)
    logits, regression = head.bbox_head(pooled)
    return final(head.bbox_head, head.test_cfg, found, logits, regression, limits, how)


def final(
    box_head: Any, test_cfg: Any, found: Candidates, logits: Tensor, regression: Any,
    limits: Tensor, how: Suppression,
) -> Candidates:  # fmt: skip
    """Decode and suppress as `BBoxHead.get_bboxes` and `multiclass_nms`.

    found: regions [N, R]. logits [N * R, classes + 1]. regression: the box head's second output, or
    None.
    """
    images, count = found.scores.shape[:2]
    scores = probabilities(box_head, logits)[:, :-1].reshape(images, count, -1)
    passed = (scores > test_cfg.score_thr) & (found.scores > 0).unsqueeze(2)
    scores = torch.where(passed, scores, torch.zeros_like(scores))
    boxes = found.boxes
    if isinstance(box_head, SABLHead):
        boxes, confidence = coders.decode_buckets(box_head.bbox_coder, boxes, regression, limits)
        scores = scores * confidence.unsqueeze(2)
    scores, row, label = best_pairs(scores, POOL)
    boxes = take(boxes, row)
    if regression is not None and not isinstance(box_head, SABLHead):
        deltas = regression.reshape(images, -1, 4)
        own = row if box_head.reg_class_agnostic else row * box_head.num_classes + label
        boxes = decode(box_head.bbox_coder, boxes, take(deltas, own), limits)
    return suppress(Candidates(boxes, scores, label), how)


def refined(
    box_head: Any, boxes: Tensor, logits: Tensor, regression: Any, limits: Tensor
) -> Tensor:
    """Refine regions [N, R, 4] for the next stage by the most likely class: `regress_by_class`."""
    if isinstance(box_head, SABLHead):
        return coders.decode_buckets(box_head.bbox_coder, boxes, regression, limits)[0]
    if not box_head.reg_class_agnostic:
        label = probabilities(box_head, logits)[:, :-1].argmax(1).reshape(-1, 1, 1)
        regression = regression.reshape(-1, box_head.num_classes, 4)
        regression = regression.gather(1, label.expand(-1, 1, 4))
    return decode(box_head.bbox_coder, boxes, regression.reshape(boxes.shape), limits)


def probabilities(box_head: Any, logits: Tensor) -> Tensor:
    """Return probabilities [R, classes + 1], the background last."""
    if box_head.custom_activation:
        activated: Tensor = box_head.loss_cls.get_activation(logits)
        return activated
    return logits.softmax(-1)
