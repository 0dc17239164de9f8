"""Heatmaps of keypoints: their local maxima, the best of them, and other maps at their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor, nn

from farm.sources.mmdet.candidates import rows, take, top


@dataclass(frozen=True)
class Peaks:
    """The best peaks of each image, best first: every field [N, k].

    place: of the cell in its map (y * width + x); x, y: the same in cells, as floats.
    """

    score: Tensor
    label: Tensor
    place: Tensor
    x: Tensor
    y: Tensor


def peaks(heat: Tensor, test_cfg: Any, limit: int) -> Peaks:
    """mmdet's `get_local_maximum` and `get_topk_from_heatmap`; heat [N, C, h, w], 0 to 1."""
    kernel = test_cfg.local_maximum_kernel
    highest = nn.functional.max_pool2d(heat, kernel, stride=1, padding=(kernel - 1) // 2)
    heat = torch.where(highest == heat, heat, torch.zeros_like(heat))
    height, width = heat.shape[2:]
    score, index = top(heat.flatten(1), limit)
    label, place = _divided(index, height * width)
    y, x = _divided(place, width)
    return Peaks(score, label, place, x.to(heat.dtype), y.to(heat.dtype))


def _divided(index: Tensor, by: int | Tensor) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of what is not negative."""
    quotient = torch.div(index, by, rounding_mode="trunc")
    return quotient, index - quotient * by


def at(values: Tensor, found: Peaks) -> Tensor:
    """[N, D, h, w] at the peaks: [N, k, D] (mmdet's `transpose_and_gather_feat`)."""
    return take(rows(values, values.shape[1]), found.place)


def cell(heat: Tensor, limits: Tensor) -> Tensor:
    """Width and height of a heatmap's cell, in pixels of the network's input (W H W H)."""
    size = torch._shape_as_tensor(heat).to(heat.device)
    return limits[:2] / torch.stack([size[3], size[2]]).to(limits.dtype)
