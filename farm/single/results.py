"""Detections in the form that mmdet's own tools evaluate and read from a pickle."""

from __future__ import annotations

from typing import Any

import numpy as np

from farm.detections import Detections


def as_mmdet(found: Detections, classes: int) -> Any:
    """Return one image's result: an array [k, 5] (x1 y1 x2 y2 score) for each class, best first.

    With masks, a pair of these and, for each class, its run-length encoded masks; where masks
    have scores of their own, a pair of masks and scores in their place.
    """
    rows = np.hstack([found.boxes, found.scores[:, None]]).astype(np.float32)
    of_class = [np.flatnonzero(found.labels == label) for label in range(classes)]
    boxes = [rows[indices] for indices in of_class]
    if found.rles is None:
        return boxes
    masks = [[pycocotools_rle(found.rles[i]) for i in indices] for indices in of_class]
    if found.mask_scores is None:
        return boxes, masks
    return boxes, (masks, [found.mask_scores[indices] for indices in of_class])


def pycocotools_rle(rle: dict[str, Any]) -> dict[str, Any]:
    """Return a run-length encoded mask in pycocotools' form, with bytes: JSON alone needs text."""
    counts = rle["counts"]
    coded = counts.encode() if isinstance(counts, str) else counts
    return {"size": list(rle["size"]), "counts": coded}
