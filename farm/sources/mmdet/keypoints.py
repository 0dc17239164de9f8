"""Keypoint detectors (CornerNet, CentripetalNet, CenterNet): boxes from peaks of heatmaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from mmdet.models.detectors import SingleStageDetector
from torch import Tensor, nn

from farm.sources.mmdet.candidates import Candidates, rows, suppress, suppression, take, top
from farm.sources.mmdet.parts import limits, packed, require_test_path

PAIRS = 1000
"""Candidates before suppression: the default of `num_dets`, which mmdet's heads never change."""

_LARGE, _MU_LARGE, _MU = 3500, 1 / 2.1, 1 / 2.4
"""Size of the central region by the box's area in pixels: section 4.1 of the CentripetalNet paper
(arXiv 2003.09119)."""

Read = Callable[[Any, tuple[Any, ...], Tensor], Candidates]
"""Takes a head, its outputs (one list of levels per output), limits [4] (W H W H in pixels)."""


@dataclass(frozen=True)
class Peaks:
    """The best peaks of each image, best first: every field is [N, k].

    place: flat index of the cell in its map (y * width + x). x, y: its column and row, as floats.
    """

    score: Tensor
    label: Tensor
    place: Tensor
    x: Tensor
    y: Tensor


def peaks(heat: Tensor, test_cfg: Any, limit: int) -> Peaks:
    """Find peaks as mmdet's `get_local_maximum` and `get_topk_from_heatmap` do.

    heat [N, C, h, w], values from 0 to 1.
    """
    kernel = test_cfg.local_maximum_kernel
    highest = nn.functional.max_pool2d(heat, kernel, stride=1, padding=(kernel - 1) // 2)
    heat = torch.where(highest == heat, heat, torch.zeros_like(heat))
    height, width = heat.shape[2:]
    score, index = top(heat.flatten(1), limit)
    label, place = _divided(index, height * width)
    y, x = _divided(place, width)
    return Peaks(score, label, place, x.to(heat.dtype), y.to(heat.dtype))


def _divided(index: Tensor, by: int | Tensor) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of integers that are not negative."""
    quotient = torch.div(index, by, rounding_mode="trunc")
    return quotient, index - quotient * by


def at(values: Tensor, found: Peaks) -> Tensor:
    """Gather [N, D, h, w] at the peaks: [N, k, D] (mmdet's `transpose_and_gather_feat`)."""
    return take(rows(values, values.shape[1]), found.place)


def cell(heat: Tensor, limits: Tensor) -> Tensor:
    """Return width and height of a heatmap's cell, in pixels of the network's input (W H W H)."""
    size = torch._shape_as_tensor(heat).to(heat.device)
    return limits[:2] / torch.stack([size[3], size[2]]).to(limits.dtype)


def centernet(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode boxes as `CenterNetHead.decode_heatmap`: each of the best `topk` peaks is a box."""
    heats, sizes, offsets = (levels[0] for levels in outs)
    found = peaks(heats, head.test_cfg, head.test_cfg.topk)
    centre = torch.stack([found.x, found.y], 2) + at(offsets, found)
    half, pixels = at(sizes, found) / 2, cell(heats, limits)
    boxes = torch.cat([(centre - half) * pixels, (centre + half) * pixels], 2)
    return Candidates(boxes, found.score, found.label)


Apart = Callable[[Peaks, Peaks, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Takes both sets of peaks, their corners [N, k, 2] in cells, all boxes [N, k, k, 4] in pixels, and
a cell's size [2]; returns bool [N, k, k], whether two corners belong to different objects."""


def cornernet(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode boxes as `CornerHead.get_bboxes`: corners of one object have similar embeddings."""
    *heats, low_embedding, high_embedding, low_offset, high_offset = (kind[-1] for kind in outs)

    def apart(low: Peaks, high: Peaks, *_: Tensor) -> Tensor:
        distance = at(low_embedding, low) - at(high_embedding, high).transpose(1, 2)
        return distance.abs() > head.test_cfg.distance_threshold

    return _pairs(head, heats, [low_offset, high_offset], apart, limits)


def centripetalnet(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode boxes as `CentripetalHead.get_bboxes`.

    Each corner predicts its object's centre, which must be near the middle of the box.
    """
    low_heat, high_heat, low_offset, high_offset, _, _, low_shift, high_shift = (
        kind[-1] for kind in outs
    )

    def apart(
        low: Peaks, high: Peaks, first: Tensor, second: Tensor, boxes: Tensor, pixels: Tensor
    ) -> Tensor:
        # A predicted centre outside the image becomes its edge (mmdet multiplies by 0).
        first = ((first + at(low_shift, low).exp()) * pixels).clamp(min=0)
        second = ((second - at(high_shift, high).exp()) * pixels).clamp(min=0)
        return _off_centre(_boxes(first, second), boxes, head.test_cfg.distance_threshold)

    return _pairs(head, [low_heat, high_heat], [low_offset, high_offset], apart, limits)


def _pairs(
    head: Any, heats: list[Tensor], offsets: list[Tensor], apart: Apart, limits: Tensor
) -> Candidates:
    """`CornerHead.decode_heatmap`: all pairs of the best corners that may belong to an object."""
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
    """Whether a pair's two centres are outside the box's central region, or far apart."""
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


READERS: dict[type, tuple[Read, bool]] = {
    dense_heads.CentripetalHead: (centripetalnet, True),
    dense_heads.CornerHead: (cornernet, True),
    dense_heads.CenterNetHead: (centernet, False),
}
"""For a head's class, looked up along the MRO: its decoder, and whether boxes are suppressed."""

_RULES = (
    "get_bboxes", "_get_bboxes_single", "_bboxes_nms", "decode_heatmap", "forward",
    "forward_single", "simple_test", "simple_test_bboxes",
)  # fmt: skip


class Keypoints(nn.Module):
    """images float32 [N, 3, H, W] -> dets [N, K, 5], labels int64 [N, K]; see `graphs.graph`."""

    clips_boxes = False

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, SingleStageDetector)
        self.model, head = model, model.bbox_head
        self.read, suppresses = _reader(head)
        limit = head.test_cfg.get("max_per_img")
        self.how = suppression(head.test_cfg, limit) if suppresses else None

    def candidates(self, images: Tensor) -> Candidates:
        """Return the candidates before the final suppression, where a graph may end."""
        outs = self.model.bbox_head(self.model.extract_feat(images))
        return self.read(self.model.bbox_head, outs, limits(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.candidates(images)
        return packed(found if self.how is None else suppress(found, self.how))


def _reader(head: Any) -> tuple[Read, bool]:
    name = type(head).__name__
    base = next((kind for kind in type(head).__mro__ if kind in READERS), None)
    if base is None:
        raise ValueError(f"head {name} cannot be exported yet")
    own = [r for r in _RULES if getattr(type(head), r, None) is not getattr(base, r, None)]
    if own:
        raise ValueError(f"head {name} has its own {own[0]}, which cannot be exported yet")
    return READERS[base]
