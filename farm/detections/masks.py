"""Paste small mask probabilities into the image, as PyTorch does, with numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from farm.detections import Floats


def paste(
    masks: Floats, boxes: Floats, height: int, width: int, threshold: float
) -> tuple[dict[str, Any], ...]:
    """Run-length encoded masks of a height x width image.

    masks: float32 [K, m, m] probabilities inside each box; boxes: float32 [K, 4] in the
    image's pixels. The same sampling as mmdet's `_do_paste_mask` (bilinear, half-pixel
    centres, zeros outside), which is separable: rows @ mask @ columns.
    """
    return tuple(
        encode(_paste_one(mask, box, height, width, threshold), height, width)
        for mask, box in zip(masks, boxes, strict=True)
    )


def _paste_one(
    mask: Floats, box: Floats, height: int, width: int, threshold: float
) -> tuple[npt.NDArray[np.uint8], int, int]:
    """Return the window that the mask covers, and its top left corner."""
    x1, y1, x2, y2 = (float(value) for value in box)
    left, right = max(int(np.floor(x1)) - 1, 0), min(int(np.ceil(x2)) + 1, width)
    top, bottom = max(int(np.floor(y1)) - 1, 0), min(int(np.ceil(y2)) + 1, height)
    if right <= left or bottom <= top:
        return np.zeros((0, 0), np.uint8), 0, 0
    rows = _weights(np.arange(top, bottom), y1, y2, mask.shape[0])
    columns = _weights(np.arange(left, right), x1, x2, mask.shape[1])
    return ((rows @ mask @ columns.T) >= threshold).astype(np.uint8), top, left


def _weights(pixels: npt.NDArray[np.int64], low: float, high: float, cells: int) -> Floats:
    """Bilinear weights [pixels, cells] of the mask's cells at each pixel's centre."""
    extent = high - low
    if extent <= 0:
        return np.zeros((len(pixels), cells), np.float32)
    position = (pixels.astype(np.float32) + 0.5 - np.float32(low)) / np.float32(extent)
    position = position * cells - 0.5
    distance = np.abs(position[:, None] - np.arange(cells, dtype=np.float32)[None])
    weights: Floats = np.maximum(0, 1 - distance).astype(np.float32)
    return weights


def encode(
    window: tuple[npt.NDArray[np.uint8], int, int], height: int, width: int
) -> dict[str, Any]:
    """Run-length encode a mask that is empty outside of a window of a height x width image.

    window: its pixels (0 or 1), and the row and column of its top left corner.
    """
    pasted, top, left = window
    full = np.zeros((height, width), np.uint8, order="F")
    full[top : top + pasted.shape[0], left : left + pasted.shape[1]] = pasted
    encoded = coco_mask.encode(full)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}
