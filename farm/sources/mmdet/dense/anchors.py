"""Heads as mmdet's base class reads them: RetinaNet, SSD, FCOS, ATSS and their kin."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, join, rows, take
from farm.sources.mmdet.dense.coders import decode
from farm.sources.mmdet.dense.levels import best
from farm.sources.mmdet.dense.priors import priors


def anchors(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`BaseDenseHead._get_bboxes_single`: per level the best pairs of prior and class.

    Where a head has a factor for the scores (the centreness of FCOS, the IoU of DDOD), it is
    multiplied in after the pairs are chosen by score alone. mmdet's own `onnx_export` chooses
    by the product, and holds the product against `score_thr`: it loses boxes of low centreness,
    and takes in others.
    """
    places = priors(head, outs[0])
    factors = outs[2] if len(outs) > 2 else [None] * len(places)
    levels = zip(outs[0], outs[1], factors, places, strict=True)
    return join([_level(head, *level, limits) for level in levels])


def _level(
    head: Any, logits: Tensor, deltas: Tensor, factor: Tensor | None, priors: Tensor, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    scores = found.scores
    if factor is not None:
        scores = scores * rows(factor, 1).flatten(1).gather(1, found.prior).sigmoid()
    deltas = take(rows(deltas, 4), found.prior)
    return Candidates(
        decode(head.bbox_coder, priors[found.prior], deltas, limits), scores, found.label
    )
