"""`StandardRoIHead` and its variants: one box head and optionally one mask head."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import roi_heads
from mmdet.models.roi_heads import bbox_heads, mask_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, suppress, suppression
from farm.sources.mmdet.parts import require, require_box_head, require_extractor, require_mask_head
from farm.sources.mmdet.two_stage.pooling import pool
from farm.sources.mmdet.two_stage.regions import (
    detections,
    final,
    mask_features,
    masks,
    own_map,
    probabilities,
)


def check_standard(head: Any, kind: type = roi_heads.StandardRoIHead) -> None:
    """Check that all parts of the head can be exported.

    kind: the class whose methods the head must not override.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, kind, ("simple_test", "simple_test_bboxes", "_bbox_forward"))
    require_box_head(head.bbox_head)
    require_extractor(head.bbox_roi_extractor)
    if head.with_mask:
        require_mask_head(head.mask_head)
        require_extractor(head.mask_roi_extractor)
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def check_pisa(head: Any) -> None:
    """Check a `PISARoIHead` as `check_standard` does; its own `_bbox_forward` computes the same.

    Raises:
        ValueError: as `check_standard`.
    """
    check_standard(head, roi_heads.PISARoIHead)


def run_standard(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor | None]:
    """Return the final boxes, and their masks [N, K, m, m] where there is a mask head."""
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = detections(head, features, found, limits, how)
    return found, masks(head, features, found) if head.with_mask else None


def check_double(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    check_standard(head, roi_heads.DoubleHeadRoIHead)
    require(head.bbox_head, bbox_heads.DoubleConvFCBBoxHead, ("forward",))


def run_double(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor | None]:
    """Return the final boxes, and their masks [N, K, m, m] where there is a mask head."""
    pooled = [
        pool(head.bbox_roi_extractor, features, found.boxes, scale)
        for scale in (None, head.reg_roi_scale_factor)
    ]
    if head.with_shared_head:
        pooled = [head.shared_head(part) for part in pooled]
    logits, deltas = head.bbox_head(*pooled)
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = final(head.bbox_head, head.test_cfg, found, logits, deltas, limits, how)
    return found, masks(head, features, found) if head.with_mask else None


def check_grid(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, roi_heads.GridRoIHead, ("simple_test", "simple_test_bboxes", "_bbox_forward"))
    require(head.grid_head, mask_heads.GridHead, ("forward", "get_bboxes"))
    require_box_head(head.bbox_head)
    require_extractor(head.bbox_roi_extractor)
    require_extractor(head.grid_roi_extractor)
    if head.with_mask:
        raise ValueError("GridRoIHead with a mask head cannot be exported yet")
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def run_grid(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, None]:
    """Return the boxes after suppression, refined; unclipped, since mmdet clips only a copy."""
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = detections(head, features, found, limits, how)
    heat = head.grid_head(pool(head.grid_roi_extractor, features, found.boxes))["fused"]
    boxes = _refined_by_grid(head.grid_head, found.boxes.reshape(-1, 4), heat.sigmoid())
    return Candidates(boxes.reshape(found.boxes.shape), found.scores, found.labels), None


def _refined_by_grid(grid: Any, boxes: Tensor, heat: Tensor) -> Tensor:
    """`GridHead.get_bboxes`: boxes [R, 4] and heat [R, points, h, w] -> boxes [R, 4].

    A side's position is the mean of its points, weighted by their heat. The maps together span
    twice the box, and the map of each point half of that.
    """
    points, side, width = grid.grid_points, grid.grid_size, grid.whole_map_size // 4 * 2
    score, place = heat.flatten(2).max(2)
    row = torch.div(place, width, rounding_mode="trunc")
    regions = place.new_tensor(grid.sub_regions)
    x, y = place - row * width + regions[:, 0], row + regions[:, 1]
    size = boxes[:, 2:] - boxes[:, :2]
    corner = boxes[:, :2] - size / 2
    x = (x.to(boxes.dtype) + 0.5) / width * size[:, :1] + corner[:, :1]
    y = (y.to(boxes.dtype) + 0.5) / width * size[:, 1:] + corner[:, 1:]
    every = range(points)
    lines = (
        (x, every[:side]), (y, every[::side]),
        (x, every[points - side :]), (y, every[side - 1 :: side]),
    )  # fmt: skip
    return torch.stack([_vote(values, score, list(line)) for values, line in lines], 1)


def _vote(values: Tensor, score: Tensor, line: list[int]) -> Tensor:
    return (values[:, line] * score[:, line]).sum(1) / score[:, line].sum(1)


def check_scoring(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    check_standard(head)
    require(head, roi_heads.MaskScoringRoIHead, ("simple_test_mask", "_mask_forward"))
    require(head.mask_iou_head, mask_heads.MaskIoUHead, ("forward", "get_mask_scores"))
    if head.mask_head.class_agnostic:
        raise ValueError("a mask IoU head on class-agnostic masks: mmdet itself cannot run it")


def run_scoring(
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


def check_trident(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    check_standard(head, roi_heads.TridentRoIHead)
    require(head, roi_heads.TridentRoIHead, ("merge_trident_bboxes",))
    if head.with_mask:
        raise ValueError("TridentRoIHead with a mask head: mmdet itself ignores it")


def run_trident(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, None]:
    """Return the final boxes. The inputs' first axis is branches * images, ordered by branch.

    mmdet assumes the order by image, which is the same for one image and mixes up several.
    """
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = detections(head, features, found, limits, how)
    branches = head.num_branch if head.test_branch_idx == -1 else 1
    if branches > 1:
        boxes, scores, labels = (
            part.reshape(branches, -1, *part.shape[1:]).transpose(0, 1).flatten(1, 2)
            for part in (found.boxes, found.scores, found.labels)
        )
        found = suppress(Candidates(boxes, scores, labels), how)
    return found, None
