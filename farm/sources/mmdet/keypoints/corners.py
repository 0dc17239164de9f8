"""CornerNet and CentripetalNet: boxes from pairs of a top left and a bottom right corner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, take, top
from farm.sources.mmdet.keypoints.heatmaps import Peaks, at, cell, peaks

PAIRS = 1000
"""Candidates before suppression: `num_dets`, which mmdet's heads never set otherwise."""

_LARGE, _MU_LARGE, _MU = 3500, 1 / 2.1, 1 / 2.4
"""Section 4.1 of the CentripetalNet paper: the central region, by the box's area in pixels."""

Apart = Callable[[Peaks, Peaks, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Both sets of peaks, their corners [N, k, 2] in cells, all boxes [N, k, k, 4] in pixels, and a
cell's size [2]: bool [N, k, k], whether these two corners are of different objects."""


def cornernet(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`CornerHead.get_bboxes`: corners of one object have embeddings close to each other."""
    *heats, low_embedding, high_embedding, low_offset, high_offset = (kind[-1] for kind in outs)

    def apart(low: Peaks, high: Peaks, *_: Tensor) -> Tensor:
        distance = at(low_embedding, low) - at(high_embedding, high).transpose(1, 2)
        return distance.abs() > head.test_cfg.distance_threshold

    return _pairs(head, heats, [low_offset, high_offset], apart, limits)


def centripetalnet(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`CentripetalHead.get_bboxes`: corners point to their centre, near the middle of the box."""
    low_heat, high_heat, low_offset, high_offset, _, _, low_shift, high_shift = (
        kind[-1] for kind in outs
    )

    def apart(
        low: Peaks, high: Peaks, first: Tensor, second: Tensor, boxes: Tensor, pixels: Tensor
    ) -> Tensor:
        # A corner that points out of the image points to its edge (mmdet multiplies by 0).
        first = ((first + at(low_shift, low).exp()) * pixels).clamp(min=0)
        second = ((second - at(high_shift, high).exp()) * pixels).clamp(min=0)
        return _off_centre(_boxes(first, second), boxes, head.test_cfg.distance_threshold)

    return _pairs(head, [low_heat, high_heat], [low_offset, high_offset], apart, limits)


def _pairs(
    head: Any, heats: list[Tensor], offsets: list[Tensor], apart: Apart, limits: Tensor
) -> Candidates:
    """`CornerHead.decode_heatmap`: every pair of the best corners that can be an object."""
    limit, pixels = head.test_cfg.corner_topk, cell(heats[0], limits)
    low, high = (peaks(heat.sigmoid(), head.test_cfg, limit) for heat in heats)
    first, second = (
        torch.stack([found.x, found.y], 2) + at(offset, found)
        for found, offset in zip((low, high), offsets, strict=True)
    )
    boxes = _boxes((first * pixels).clamp(min=0), (second * pixels).clamp(min=0))
    refused = apart(low, high, first, second, boxes, pixels)
    refused = refused | (low.label.unsqueeze(2) != high.label.unsqueeze(1))
    refused = refused | (boxes[..., 2:] <= boxes[..., :2]).any(3)
    scores = (low.score.unsqueeze(2) + high.score.unsqueeze(1)) / 2
    scores = torch.where(refused, torch.zeros_like(scores), scores).flatten(1)
    scores, index = top(scores, PAIRS)
    row = torch.div(index, high.score.shape[1], rounding_mode="trunc")
    return Candidates(take(boxes.flatten(1, 2), index), scores, low.label.gather(1, row))


def _boxes(first: Tensor, second: Tensor) -> Tensor:
    """Corners [N, k, 2] and [N, l, 2] -> boxes [N, k, l, 4] of every pair."""
    first, second = torch.broadcast_tensors(first.unsqueeze(2), second.unsqueeze(1))
    return torch.cat([first, second], 3)


def _off_centre(centres: Tensor, boxes: Tensor, threshold: float) -> Tensor:
    """Whether a pair's two centres lie outside the box's central region, or far apart."""
    share = torch.where(_area(boxes) > _LARGE, boxes.new_tensor(_MU_LARGE), boxes.new_tensor(_MU))
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = share.unsqueeze(3) * (boxes[..., 2:] - boxes[..., :2]) / 2
    low, high = middle - half, middle + half
    low, high = torch.cat([low, low], 3), torch.cat([high, high], 3)
    outside = ((centres <= low) | (centres >= high)).any(3)
    central = _area(torch.cat([low[..., :2], high[..., :2]], 3))
    return outside | (_area(centres) / central > threshold)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).prod(3).abs()
