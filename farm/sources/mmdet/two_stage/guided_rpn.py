"""`GARPNHead`: anchors whose locations and shapes are predicted, as in Guided Anchoring."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import dense_heads
from torch import Tensor

from farm.sources.mmdet.candidates import (
    Candidates,
    Suppression,
    join,
    rows,
    suppress,
    suppression,
    take,
    top,
)
from farm.sources.mmdet.dense import guided
from farm.sources.mmdet.two_stage.parts import require, require_plain_coder
from farm.sources.mmdet.two_stage.proposals import best_of_level, large


def check(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, dense_heads.GARPNHead, ("forward_single", "_get_bboxes_single"))
    guided.check(head)
    require_plain_coder(head)
    if _suppression(head, 1).decay is not None:
        raise ValueError("GARPNHead with soft-NMS: mmdet itself cannot run it")


def proposals(head: Any, features: list[Tensor], limits: Tensor) -> Candidates:
    """Return the proposals of each image, best first; unused rows have score 0.

    As in `GARPNHead._get_bboxes_single`, they are suppressed per level, and across levels only if
    the config says so.
    """
    outs = head(features)
    sizes = [logits.shape[-2:] for logits in outs[0]]
    squares = head.square_anchor_generator.grid_priors(sizes, device=features[0].device)
    levels = list(zip(*outs, squares, strict=True))
    found = join([_level(head, i, level, limits) for i, level in enumerate(levels)])
    keep = head.test_cfg.max_per_img
    if head.test_cfg.get("nms_across_levels", False):
        return suppress(found, _suppression(head, keep))
    scores, index = top(found.scores, keep)
    return Candidates(take(found.boxes, index), scores, found.labels.gather(1, index))


def _suppression(head: Any, keep: int) -> Suppression:
    how = suppression(head.test_cfg, keep)
    return Suppression(how.iou, True, keep, how.decay)


def _level(head: Any, index: int, level: tuple[Tensor, ...], limits: Tensor) -> Candidates:
    logits, deltas, shape, place, squares = level
    counts = rows(place, 1).sigmoid().squeeze(2) >= head.loc_filter_thr
    anchors = guided.anchors_of(head, squares, rows(shape, 2))
    found = best_of_level(head, index, logits, deltas, anchors, limits, counts)
    return suppress(large(found, head.test_cfg), _suppression(head, head.test_cfg.nms_post))
