"""FoveaBox: each side of a box as a logarithm, in edges of its level."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, join, rows, take
from farm.sources.mmdet.dense.levels import best
from farm.sources.mmdet.dense.priors import priors


def fovea(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`FoveaHead._get_bboxes_single`; boxes are clipped to the last pixel, W - 1 and H - 1."""
    levels = zip(outs[0], outs[1], priors(head, outs[0]), head.base_edge_list, strict=True)
    return join([_level(head, *level, limits) for level in levels])


def _level(
    head: Any, logits: Tensor, deltas: Tensor, points: Tensor, edge: int, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    sides = take(rows(deltas, 4), found.prior).exp() * edge
    points = points[found.prior]
    boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)
    return Candidates(torch.minimum(boxes.clamp(min=0), limits - 1), found.scores, found.label)
