"""Masks in the original image: pasted into boxes, or resized from the network's whole input."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from farm.detections import Detections, Floats, ImageMeta
from farm.errors import WrongOutputs

Ids = npt.NDArray[np.int64]

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

    Raises:
        WrongOutputs: a box is not finite.
    """
    if not np.isfinite(boxes).all():
        raise WrongOutputs("it gives a box of NaN or infinity, into which no mask can be pasted")
    left, right = _covered(boxes[:, 0], boxes[:, 2], width)
    top, bottom = _covered(boxes[:, 1], boxes[:, 3], height)
    rows = _weights(top, bottom, boxes[:, 1], boxes[:, 3], masks.shape[1])
    columns = _weights(left, right, boxes[:, 0], boxes[:, 2], masks.shape[2])
    rles = []
    for i, mask in enumerate(masks):
        inside = (rows[i] @ mask @ columns[i].T) >= threshold
        rles.append(encode(inside, int(top[i]), int(left[i]), height, width))
    return tuple(rles)


def _covered(low: Floats, high: Floats, size: int) -> tuple[Ids, Ids]:
    """The first pixel of `size` that each extent can cover, and the one after the last."""
    first = (np.floor(low.astype(np.float64)) - 1).clip(0, size).astype(np.int64)
    after = (np.ceil(high.astype(np.float64)) + 1).clip(0, size).astype(np.int64)
    return first, np.maximum(first, after)


def _weights(first: Ids, after: Ids, low: Floats, high: Floats, cells: int) -> list[Floats]:
    """Bilinear weights [after - first, cells] of the cells of each of K masks at pixels' centres.

    All at once, since a call of numpy costs more than the arithmetic of one small mask.
    """
    lengths = after - first
    ends = lengths.cumsum()
    pixels = np.arange(lengths.sum()) - (ends - lengths - first).repeat(lengths)
    extent = high.astype(np.float64) - low
    empty = extent <= 0
    extents = np.where(empty, 1, extent).astype(np.float32).repeat(lengths)
    position = (pixels.astype(np.float32) + 0.5 - low.repeat(lengths)) / extents
    weights = _tent(position * cells - 0.5, cells)
    if empty.any():
        weights[empty.repeat(lengths)] = 0
    return np.split(weights, ends[:-1])


def encode(
    inside: npt.NDArray[np.bool_], top: int, left: int, height: int, width: int
) -> dict[str, Any]:
    """Run-length encode a mask that is empty outside of a window of a height x width image.

    inside: the window's pixels; top, left: where its corner is. The same text as pycocotools'
    `encode` gives for the whole image, most of whose pixels are never looked at.
    """
    rows, columns = inside.shape
    # A pixel outside ends each column, unless an object may go on into the next one.
    step = rows if rows == height else rows + 1
    line = np.zeros(columns * step + 2, np.bool_)
    line[1:-1].reshape(columns, step)[:, :rows] = inside.T
    changes = (line[1:] != line[:-1]).nonzero()[0]
    bounds = np.empty(len(changes) + 2, np.int64)
    bounds[0], bounds[-1] = 0, height * width
    bounds[1:-1] = changes + changes // step * (height - step) + (left * height + top)
    runs = (bounds[1:] - bounds[:-1]).tolist()
    if len(runs) > 1 and not runs[-1]:
        runs.pop()
    size = [height, width]
    encoded = coco_mask.frPyObjects({"size": size, "counts": runs}, height, width)
    return {"size": size, "counts": encoded["counts"].decode("ascii")}


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
        rles.append(_encode_whole(inside))
        if kind == "queries":
            factors[i] = _mean_probability(mask[inside])
    if kind != "image":
        boxes = boxes_around(rles)
    scores = scores * factors
    order = np.argsort(-scores, kind="stable")
    return Detections(
        boxes[order], scores[order], found.labels[order], rles=tuple(rles[i] for i in order)
    )


def _encode_whole(inside: npt.NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(inside, np.uint8))
    return {"size": [*inside.shape], "counts": encoded["counts"].decode("ascii")}


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
    """Bilinear weights [positions, cells] of the cells at positions in units of cells.

    max(0, 1 - distance), which is over 0 for two neighbours at most.
    """
    weights = np.zeros((len(position), cells), np.float32)
    lower = np.floor(position.clip(-1, cells)).astype(np.int64)
    for cell in (lower, lower + 1):
        (there,) = ((cell >= 0) & (cell < cells)).nonzero()
        near = cell[there]
        distance = np.abs(position[there] - near.astype(np.float32))
        weights[there, near] = np.maximum(0, 1 - distance)
    return weights


def _mean_probability(logits: npt.NDArray[np.float32]) -> float:
    """mmdet's mask score; 0 for an empty mask."""
    return float((1 / (1 + np.exp(-logits.astype(np.float64)))).sum() / (len(logits) + 1e-6))
