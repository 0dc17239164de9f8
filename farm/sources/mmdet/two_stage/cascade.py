"""`CascadeRoIHead`: each stage refines the boxes of the previous one, as in Cascade R-CNN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, suppression
from farm.sources.mmdet.two_stage.boxes import final, refined
from farm.sources.mmdet.two_stage.masks import own_map, probabilities
from farm.sources.mmdet.two_stage.parts import (
    require,
    require_box_head,
    require_extractor,
    require_mask_head,
)
from farm.sources.mmdet.two_stage.pooling import pool

Predict = Callable[[int, Tensor], tuple[Tensor, Any]]
"""Takes a stage's index and its regions [N, R, 4]; returns the outputs of its box head."""


def check(head: Any) -> None:
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


def run(
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
