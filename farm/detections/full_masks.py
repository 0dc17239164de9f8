"""Masks of the size of the network's input: resized to the original image, with boxes and scores.

Three kinds, by how mmdet resizes them and what else it derives from them:

    image     probabilities, sized straight to the original (YOLACT)
    segments  probabilities, enlarged by the stride of their cells, cut to the valid part, sized;
              of models without boxes, where the box around the mask stands for one (SOLO)
    queries   logits, enlarged to the network's input, cut, sized; likewise without boxes. The
              score counts times the mean probability inside the mask (MaskFormer, Mask2Former)

mmdet returns zeros for SOLO's boxes, and boxes around the masks for the mask transformers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from farm.detections import Detections, Floats, ImageMeta
from farm.detections.masks import encode

KINDS = ("image", "segments", "queries")


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
        boxes = around(rles)
    scores = scores * factors
    order = np.argsort(-scores, kind="stable")
    return Detections(
        boxes[order], scores[order], found.labels[order], rles=tuple(rles[i] for i in order)
    )


def around(rles: list[dict[str, Any]] | tuple[dict[str, Any], ...]) -> Floats:
    """float32 [K, 4], x1 y1 x2 y2 around each run-length encoded mask; zeros for an empty one."""
    boxes = np.array([coco_mask.toBbox(dict(rle)) for rle in rles], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def resized(masks: Floats, meta: ImageMeta, kind: str) -> list[Floats]:
    """Each of [K, h, w] at the original's size.

    Bilinear with half-pixel centres, as `torch.nn.functional.interpolate`, which is separable:
    rows @ mask @ columns.
    """
    rows = _weights(masks.shape[1], meta.height, meta.valid_h, meta.original_h, kind)
    columns = _weights(masks.shape[2], meta.width, meta.valid_w, meta.original_w, kind).T
    return [rows @ mask @ columns for mask in masks]


def _weights(cells: int, size: int, valid: int, original: int, kind: str) -> Floats:
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
    distance = np.abs(position[:, None] - np.arange(cells, dtype=np.float32)[None])
    weights: Floats = np.maximum(0, 1 - distance).astype(np.float32)
    return weights


def _mean_probability(logits: npt.NDArray[np.float32]) -> float:
    """mmdet's mask score; 0 for an empty mask."""
    return float((1 / (1 + np.exp(-logits.astype(np.float64)))).sum() / (len(logits) + 1e-6))
