"""SABL's RetinaNet: the sides of a box found in buckets, and the score weighed by how surely."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, join, rows, take
from farm.sources.mmdet.dense.levels import best
from farm.sources.mmdet.two_stage import buckets


def sabl(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`SABLRetinaHead._get_bboxes_single`, from one square per place."""
    sizes = [logits.shape[-2:] for logits in outs[0]]
    squares = head.square_anchor_generator.grid_priors(sizes, device=outs[0][0].device)
    levels = zip(outs[0], outs[1], squares, strict=True)
    return join([_level(head, *level, limits) for level in levels])


def _level(
    head: Any, logits: Tensor, regression: tuple[Tensor, Tensor], squares: Tensor, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    classes, offsets = (take(rows(part, 4 * head.side_num), found.prior) for part in regression)
    boxes, sure = buckets.decode(head.bbox_coder, squares[found.prior], (classes, offsets), limits)
    return Candidates(boxes, found.scores * sure, found.label)
