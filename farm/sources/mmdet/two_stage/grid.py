"""`GridRoIHead`: boxes refined by grid points from heatmaps, as in Grid R-CNN."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import roi_heads
from mmdet.models.roi_heads import mask_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, suppression
from farm.sources.mmdet.two_stage.boxes import detections
from farm.sources.mmdet.two_stage.parts import require, require_box_head, require_extractor
from farm.sources.mmdet.two_stage.pooling import pool


def check(head: Any) -> None:
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


def run(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, None]:
    """Return the boxes after suppression, refined; unclipped, since mmdet clips only a copy."""
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = detections(head, features, found, limits, how)
    heat = head.grid_head(pool(head.grid_roi_extractor, features, found.boxes))["fused"]
    boxes = _refined(head.grid_head, found.boxes.reshape(-1, 4), heat.sigmoid())
    return Candidates(boxes.reshape(found.boxes.shape), found.scores, found.labels), None


def _refined(grid: Any, boxes: Tensor, heat: Tensor) -> Tensor:
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
