"""CenterNet: each peak is an object's centre, and gives its box."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates
from farm.sources.mmdet.keypoints.heatmaps import at, cell, peaks


def centernet(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`CenterNetHead.decode_heatmap`: the best `topk` peaks, which are the detections."""
    heats, sizes, offsets = (levels[0] for levels in outs)
    found = peaks(heats, head.test_cfg, head.test_cfg.topk)
    centre = torch.stack([found.x, found.y], 2) + at(offsets, found)
    half, pixels = at(sizes, found) / 2, cell(heats, limits)
    boxes = torch.cat([(centre - half) * pixels, (centre + half) * pixels], 2)
    return Candidates(boxes, found.score, found.label)
