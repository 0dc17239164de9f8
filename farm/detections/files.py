"""Detections in files: one .npz for many images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farm.detections import Detections


def save(path: Path, found: Sequence[Detections]) -> None:
    """Boxes, scores, labels and pasted masks of all images, flat, with a count per image."""
    arrays = {
        "counts": np.array([len(one) for one in found], np.int64),
        "boxes": np.concatenate([one.boxes for one in found] or [np.zeros((0, 4), np.float32)]),
        "scores": np.concatenate([one.scores for one in found] or [np.zeros(0, np.float32)]),
        "labels": np.concatenate([one.labels for one in found] or [np.zeros(0, np.int64)]),
    }
    if any(one.rles is not None for one in found):
        rles = [rle for one in found for rle in one.rles or ()]
        arrays["mask_sizes"] = np.array([rle["size"] for rle in rles], np.int64).reshape(-1, 2)
        texts = [_ascii(rle["counts"]) for rle in rles]
        arrays["mask_ends"] = np.array([len(text) for text in texts], np.int64).cumsum()
        arrays["mask_texts"] = np.frombuffer(b"".join(texts), np.uint8)
    scores = [one.mask_scores for one in found if one.mask_scores is not None]
    if scores:
        arrays["mask_scores"] = np.concatenate(scores)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> list[Detections]:
    """Read what `save` wrote, now or in an earlier version."""
    with np.load(path) as stored:
        ends = stored["counts"].cumsum()
        boxes, scores, labels = stored["boxes"], stored["scores"], stored["labels"]
        rles = _rles(stored) if "mask_sizes" in stored else None
        mask_scores = stored.get("mask_scores")
    spans = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
    return [
        Detections(
            boxes[span],
            scores[span],
            labels[span],
            rles=rles[span] if rles is not None else None,
            mask_scores=mask_scores[span] if mask_scores is not None else None,
        )
        for span in spans
    ]


def _rles(stored: Any) -> tuple[dict[str, Any], ...]:
    pairs = zip(stored["mask_sizes"].tolist(), _texts(stored), strict=True)
    return tuple({"size": size, "counts": counts} for size, counts in pairs)


def _texts(stored: Any) -> list[bytes]:
    """The texts of all masks, joined; earlier versions kept each as wide as the longest."""
    if "mask_counts" in stored:
        return list(stored["mask_counts"].tolist())
    joined, ends = stored["mask_texts"].tobytes(), stored["mask_ends"].tolist()
    return [joined[start:end] for start, end in itertools.pairwise([0, *ends])]


def _ascii(counts: str | bytes) -> bytes:
    return counts.encode("ascii") if isinstance(counts, str) else counts
