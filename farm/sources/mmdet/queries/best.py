"""What the heads of query detectors share: which queries count, and how they code boxes."""

from __future__ import annotations

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `count` entries of [N, queries, classes]: score, query and class, each [N, count].

    Their number is that of the head and free of the image, unlike `candidates.best_pairs`'s.
    """
    classes = scores.shape[2]
    values, index = scores.flatten(1).topk(count, dim=1)
    row = torch.div(index, classes, rounding_mode="trunc")
    return values, row, index - row * classes


def corners(boxes: Tensor) -> Tensor:
    """[.., 4] as centre and size -> x1 y1 x2 y2, with mmdet's own rounding."""
    centre, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return torch.cat([centre - half, centre + half], -1)
