"""Masks in the original image: pasted into boxes, or resized from the network's whole input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from farm.detections import Detections, Floats, ImageMeta

KINDS = ("image", "segments", "queries")
"""How masks over the whole input are resized, and what else mmdet derives from them.

image: probabilities, resized straight to the original (YOLACT). segments: probabilities, enlarged
by the stride of their cells, cut to the valid part, resized; of models without boxes (SOLO).
queries: logits, enlarged to the input, cut, resized; the score counts times the mean probability
inside the mask (MaskFormer, Mask2Former). The box of the last two is the one around the mask.
"""


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
    return _tent(position, cells)


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


def in_image(
    found: Detections, boxes: Floats, meta: ImageMeta, threshold: float, kind: str
) -> Detections:
    """`found` with its masks in the original image, best score first.

    found.masks: float32 [K, h, w]; boxes: the model's own in the original's pixels, which count
    for the kind "image" only; threshold: a pixel with more is the object's.
    """
    assert found.masks is not None
    scores, rles = found.scores, []
    factors = np.ones(len(found), np.float32)
    for i, mask in enumerate(resized(found.masks, meta, kind)):
        inside = mask > threshold
        rles.append(encode((inside.astype(np.uint8), 0, 0), *inside.shape))
        if kind == "queries":
            factors[i] = _mean_probability(mask[inside])
    if kind != "image":
        boxes = boxes_around(rles)
    scores = scores * factors
    order = np.argsort(-scores, kind="stable")
    return Detections(
        boxes[order], scores[order], found.labels[order], rles=tuple(rles[i] for i in order)
    )


def boxes_around(rles: list[dict[str, Any]] | tuple[dict[str, Any], ...]) -> Floats:
    """float32 [K, 4], x1 y1 x2 y2 around each run-length encoded mask; zeros for an empty one."""
    boxes = np.array([coco_mask.toBbox(dict(rle)) for rle in rles], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def resized(masks: Floats, meta: ImageMeta, kind: str) -> list[Floats]:
    """Each of [K, h, w] at the original's size.

    Bilinear with half-pixel centres, as `torch.nn.functional.interpolate`, which is separable:
    rows @ mask @ columns.
    """
    rows = _resize_weights(masks.shape[1], meta.height, meta.valid_h, meta.original_h, kind)
    columns = _resize_weights(masks.shape[2], meta.width, meta.valid_w, meta.original_w, kind).T
    return [rows @ mask @ columns for mask in masks]


def _resize_weights(cells: int, size: int, valid: int, original: int, kind: str) -> Floats:
    """[original, cells], along one axis of `size` pixels, of which `valid` are no padding."""
    if kind == "image":
        return _bilinear(original, cells)
    # The cells of a stride can reach beyond an input that it does not divide.
    enlarged = cells * -(-size // cells) if kind == "segments" else size
    weights = _bilinear(original, valid) @ _bilinear(enlarged, cells)[:valid]
    return np.ascontiguousarray(weights)


def _bilinear(to: int, cells: int) -> Floats:
    """Bilinear weights [to, cells]; beyond the outermost centres the outermost cell counts."""
    position = (np.arange(to, dtype=np.float32) + 0.5) * np.float32(cells / to) - 0.5
    position = position.clip(0, cells - 1)
    return _tent(position, cells)


def _tent(position: Floats, cells: int) -> Floats:
    """Bilinear weights [positions, cells] of the cells at positions in units of cells."""
    distance = np.abs(position[:, None] - np.arange(cells, dtype=np.float32)[None])
    weights: Floats = np.maximum(0, 1 - distance).astype(np.float32)
    return weights


def _mean_probability(logits: npt.NDArray[np.float32]) -> float:
    """mmdet's mask score; 0 for an empty mask."""
    return float((1 / (1 + np.exp(-logits.astype(np.float64)))).sum() / (len(logits) + 1e-6))
