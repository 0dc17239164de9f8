"""The final suppression on the host, for engines that end before it: the graph's own result.

mmcv's greedy `nms`: rows in the order of their scores, equal ones in the order they came in; a
kept row suppresses those after it whose IoU with it is strictly over the threshold. And its
`soft_nms`, where a picked row lowers the scores of what it overlaps instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from farm.detections import Floats
    from farm.specs import Decay, Suppression


def suppress(
    outputs: Mapping[str, npt.NDArray[Any]], how: Suppression
) -> dict[str, npt.NDArray[Any]]:
    """Suppress boxes [N, M, 4] with scores [N, M] (0 for none) and labels [N, M].

    Returns dets float32 [N, K, 5] and labels int64 [N, K], best first, K = min(how.keep, M); empty
    rows are 0 and -1.
    """
    boxes, scores, labels = (outputs[name] for name in ("boxes", "scores", "labels"))
    images, rows = scores.shape
    size = min(how.keep, rows)
    dets = np.zeros((images, size, 5), np.float32)
    found = np.full((images, size), -1, np.int64)
    for i in range(images):
        remaining = survivors(boxes[i], scores[i], labels[i], how)
        kept = np.argsort(-remaining, kind="stable")[: np.count_nonzero(remaining)]
        dets[i, : len(kept), :4] = boxes[i, kept]
        dets[i, : len(kept), 4] = remaining[kept]
        found[i, : len(kept)] = labels[i, kept]
    return {"dets": dets, "labels": found}


def survivors(boxes: Floats, scores: Floats, labels: npt.NDArray[Any], how: Suppression) -> Floats:
    """Return the scores [M] after suppression; 0 where suppressed, and beyond `how.keep` rows."""
    remaining = np.zeros_like(scores)
    rows = np.flatnonzero(scores > 0)
    if not len(rows):
        return remaining
    moved = boxes[rows]
    if not how.class_agnostic:
        # As mmcv's `batched_nms`: classes lie so far apart that none overlaps another; in float32,
        # whose rounding is part of the result.
        offset = max(moved.max(), np.float32(0)) + np.float32(1)
        moved = moved + (labels[rows].astype(np.float32) * offset)[:, None]
    if how.decay is not None:
        remaining[rows] = _soft(moved, scores[rows], how.keep, how.decay)
    else:
        kept = rows[_greedy(moved, scores[rows], how.keep, how.iou)]
        remaining[kept] = scores[kept]
    return remaining


def _greedy(boxes: Floats, scores: Floats, most: int, threshold: float) -> list[int]:
    """Return the indices of the boxes that no better kept one suppresses."""
    alive = np.argsort(-scores, kind="stable")
    areas = _areas(boxes, 0)
    kept: list[int] = []
    while len(alive) and len(kept) < most:
        best, alive = alive[0], alive[1:]
        kept.append(int(best))
        overlap = _iou(boxes[best], areas[best], boxes[alive], areas[alive], 0)
        alive = alive[~(overlap > np.float32(threshold))]
    return kept


def _soft(boxes: Floats, scores: Floats, most: int, decay: Decay) -> Floats:
    """Return the score of each row when it was picked; 0 for those that never were."""
    areas = _areas(boxes, decay.offset)
    remaining, picked = scores.copy(), np.zeros_like(scores)
    for _ in range(most):
        best = int(remaining.argmax())
        if remaining[best] <= 0:
            break
        picked[best] = remaining[best]
        overlap = _iou(boxes[best], areas[best], boxes, areas, decay.offset)
        remaining *= _weights(overlap, decay)
        remaining[best] = 0
        remaining[remaining < np.float32(decay.min_score)] = 0
    return picked


def _weights(overlap: Floats, decay: Decay) -> Floats:
    over = overlap >= np.float32(decay.iou)
    if decay.method == "naive":
        return (~over).astype(np.float32)
    if decay.method == "linear":
        return np.where(over, 1 - overlap, np.float32(1))
    gaussian: Floats = np.exp(-(overlap * overlap) / np.float32(decay.sigma))
    return gaussian


def _areas(boxes: Floats, offset: int) -> Floats:
    sides: Floats = boxes[:, 2:] - boxes[:, :2] + np.float32(offset)
    areas: Floats = sides[:, 0] * sides[:, 1]
    return areas


def _iou(box: Floats, area: Floats, others: Floats, areas: Floats, offset: int) -> Floats:
    """IoU of one box [4] with others [M, 4]; 0 where they do not meet or have no area."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    sides = np.maximum(high - low + np.float32(offset), 0)
    inner = sides[:, 0] * sides[:, 1]
    union = area + areas - inner
    overlaps: Floats = np.divide(inner, union, out=np.zeros_like(inner), where=inner > 0)
    return overlaps
