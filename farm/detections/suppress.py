"""The final suppression on the host, for engines that end before it; the same result as in a graph.

mmcv's greedy `nms`: rows in the order of their scores, equal ones in the order they came in; a
kept row suppresses those after it whose IoU with it is strictly over the threshold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.detections import Floats
from farm.inputs import Suppression


def suppress(
    outputs: Mapping[str, npt.NDArray[Any]], how: Suppression
) -> dict[str, npt.NDArray[Any]]:
    """boxes [N, M, 4], scores [N, M] (0: takes no part), labels [N, M] -> dets, labels.

    dets float32 [N, K, 5], labels int64 [N, K], best first, K = min(how.keep, M); empty rows are
    0 and -1.
    """
    boxes, scores, labels = (outputs[name] for name in ("boxes", "scores", "labels"))
    images, rows = scores.shape
    size = min(how.keep, rows)
    dets = np.zeros((images, size, 5), np.float32)
    found = np.full((images, size), -1, np.int64)
    for i in range(images):
        kept = keep(boxes[i], scores[i], labels[i], how)
        dets[i, : len(kept), :4] = boxes[i, kept]
        dets[i, : len(kept), 4] = scores[i, kept]
        found[i, : len(kept)] = labels[i, kept]
    return {"dets": dets, "labels": found}


def keep(
    boxes: Floats, scores: Floats, labels: npt.NDArray[Any], how: Suppression
) -> npt.NDArray[np.int64]:
    """Indices of the survivors among [M] rows, best first, at most `how.keep`."""
    rows = np.flatnonzero(scores > 0)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    if not len(rows):
        return rows
    moved = boxes[rows]
    if not how.class_agnostic:
        # As mmcv's `batched_nms`: classes lie so far apart that none overlaps another; in float32,
        # whose rounding is part of the result.
        offset = max(moved.max(), np.float32(0)) + np.float32(1)
        moved = moved + (labels[rows].astype(np.float32) * offset)[:, None]
    return rows[_greedy(moved, how.iou, how.keep)]


def _greedy(boxes: Floats, threshold: float, most: int) -> list[int]:
    """Places in `boxes` (best first) of those that no better kept one suppresses."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive = np.arange(len(boxes))
    kept: list[int] = []
    while len(alive) and len(kept) < most:
        best, alive = alive[0], alive[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[alive, :2])
        high = np.minimum(boxes[best, 2:], boxes[alive, 2:])
        inner = np.maximum(high - low, 0).prod(1)
        union = areas[best] + areas[alive] - inner
        # A division by 0 is one of 0 by 0: boxes without an area suppress nothing.
        overlap = np.divide(inner, union, out=np.zeros_like(inner), where=union != 0)
        alive = alive[~(overlap > np.float32(threshold))]
    return kept
