"""Detections in files: one .npz for many images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from farm.detections import Detections


def save(path: Path, found: Sequence[Detections]) -> None:
    """Boxes, scores, labels and small masks of all images, flat, with a count per image."""
    arrays = {
        "counts": np.array([len(one) for one in found], np.int64),
        "boxes": np.concatenate([one.boxes for one in found] or [np.zeros((0, 4), np.float32)]),
        "scores": np.concatenate([one.scores for one in found] or [np.zeros(0, np.float32)]),
        "labels": np.concatenate([one.labels for one in found] or [np.zeros(0, np.int64)]),
    }
    masks = [one.masks for one in found if one.masks is not None and len(one)]
    if masks:
        arrays["masks"] = np.concatenate(masks)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> list[Detections]:
    with np.load(path) as stored:
        ends = stored["counts"].cumsum()
        masks = stored.get("masks")
        boxes, scores, labels = stored["boxes"], stored["scores"], stored["labels"]
    spans = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
    return [
        Detections(
            boxes[span], scores[span], labels[span], masks[span] if masks is not None else None
        )
        for span in spans
    ]
