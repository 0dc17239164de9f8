"""Detections: what every engine returns, how two sets are matched, how masks are pasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ImageMeta:
    """Where a prepared image came from and how its pixels map back (all in pixels).

    original = (network - (left, top)) / scale, over the valid part of valid_h x valid_w that
    begins there; the rest of the height x width network input is padding.
    """

    image_id: int
    file_name: str
    original_h: int
    original_w: int
    valid_h: int
    valid_w: int
    height: int
    width: int
    scale_x: float
    scale_y: float
    left: int = 0
    top: int = 0


@dataclass(frozen=True)
class Detections:
    """One image's detections, best score first; empty rows removed.

    boxes: float32 [K, 4], x1 y1 x2 y2 in pixels of the frame the producer states;
    scores: float32 [K]; labels: int64 [K];
    masks: None, or not yet pasted: float32 [K, m, m] probabilities inside each box, or [K, h, w]
    over the whole network input (see `masks`);
    rles: None, or K run-length encoded masks of the original image (pycocotools' form);
    mask_scores: None where `scores` are the masks' too, else float32 [K].
    """

    boxes: Floats
    scores: Floats
    labels: npt.NDArray[np.int64]
    masks: Floats | None = None
    rles: tuple[dict[str, Any], ...] | None = None
    mask_scores: Floats | None = None

    def __len__(self) -> int:
        return len(self.scores)
