"""Match an engine's boxes with PyTorch's: same class, best IoU first, each box once.

Keeps raw numbers for every box; thresholds are applied later, so that another tolerance needs
no new run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from farm.detections import Detections, Floats


@dataclass(frozen=True)
class Pairs:
    """One row per reference box, then one per engine box without a partner.

    Each is float32 [rows]: scores (NaN where that side has no box), IoU of the pair (0 for
    none), greatest coordinate difference in pixels, IoU of the masks (NaN where neither side has
    them) and difference of their own scores (NaN for none).
    """

    reference_score: Floats
    engine_score: Floats
    iou: Floats
    box_diff_px: Floats
    mask_iou: Floats
    mask_score_diff: Floats


def match(references: Sequence[Detections], engines: Sequence[Detections]) -> Pairs:
    """Pairs over all images, in order."""
    rows = [
        row
        for reference, engine in zip(references, engines, strict=True)
        for row in _match_image(reference, engine)
    ]
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Pairs(*(np.ascontiguousarray(table[:, i]) for i in range(6)))


def box_iou(a: Floats, b: Floats) -> Floats:
    """IoU of every pair: float32 [len(a), len(b)].

    Boxes clipped to a sliver or to nothing have no meaningful IoU: they count as 1 where all
    their corners agree to a hundredth of a pixel.
    """
    corners = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inner = np.clip(corners[1] - corners[0], 0, None).prod(-1)
    area_a, area_b = (np.clip(x[:, 2:] - x[:, :2], 0, None).prod(-1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - inner
    iou = np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)
    same = np.abs(a[:, None] - b[None]).max(2) < 0.01
    overlaps: Floats = np.maximum(iou, same.astype(np.float32))
    return overlaps


def partners(reference: Detections, engine: Detections) -> dict[int, int]:
    """Return the index of the engine's box that is matched with each box of the reference's."""
    return _partners(reference, engine, _mask_iou(reference, engine))[1]


def _partners(
    reference: Detections, engine: Detections, masks: Floats
) -> tuple[Floats, dict[int, int]]:
    iou = box_iou(reference.boxes, engine.boxes)
    iou[reference.labels[:, None] != engine.labels[None]] = 0
    apart = np.abs(reference.scores[:, None] - engine.scores[None])
    return iou, _assign(iou, masks, apart)


def _match_image(reference: Detections, engine: Detections) -> list[tuple[float, ...]]:
    masks = _mask_iou(reference, engine)
    iou, partner = _partners(reference, engine, masks)
    nan = float("nan")
    rows: list[tuple[float, ...]] = []
    for i, score in enumerate(reference.scores):
        j = partner.get(i)
        if j is None:
            rows.append((score, nan, 0, nan, nan, nan))
        else:
            difference = np.abs(reference.boxes[i] - engine.boxes[j]).max()
            others = masks[i, j], _mask_score_diff(reference, i, engine, j)
            rows.append((score, engine.scores[j], iou[i, j], difference, *others))
    alone = set(range(len(engine))) - set(partner.values())
    rows += [(nan, engine.scores[j], 0, nan, nan, nan) for j in sorted(alone)]
    return rows


def _assign(iou: Floats, masks: Floats, score_diff: Floats) -> dict[int, int]:
    """Reference index -> engine index: the best overlaps first, of boxes, then of masks; equal
    ones by nearest score.

    Detectors without suppression return one box twice, with different scores; boxes around masks
    are often the same where the masks are not.
    """
    candidates: npt.NDArray[np.int64] = np.argwhere(iou > 0)
    rows, columns = candidates[:, 0], candidates[:, 1]
    overlaps = (-one[rows, columns].round(2) for one in (masks, iou))
    order = np.lexsort((score_diff[rows, columns], *overlaps))
    partner: dict[int, int] = {}
    matched: set[int] = set()
    for i, j in candidates[order].tolist():
        if i not in partner and j not in matched:
            partner[i] = j
            matched.add(j)
    return partner


def _mask_iou(reference: Detections, engine: Detections) -> Floats:
    """IoU of every pair of masks, 1 for two empty ones; NaN where neither side has any, and 0 where
    one has lost them."""
    if reference.rles is None and engine.rles is None:
        return np.full((len(reference), len(engine)), np.nan, np.float32)
    if reference.rles is None or engine.rles is None:
        return np.zeros((len(reference), len(engine)), np.float32)
    a, b = ([dict(rle) for rle in one.rles or ()] for one in (reference, engine))
    if not a or not b:
        return np.zeros((len(a), len(b)), np.float32)
    empty = _empty(a)[:, None] & _empty(b)[None]
    return np.where(empty, 1, coco_mask.iou(a, b, [0] * len(b))).astype(np.float32)


def _empty(rles: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.bool_]:
    """One at a time: pycocotools fails on more than 255 at once beside numpy 2."""
    return np.array([coco_mask.area(rle) == 0 for rle in rles])


def _mask_score_diff(reference: Detections, i: int, engine: Detections, j: int) -> float:
    own = reference.mask_scores, engine.mask_scores
    if own[0] is None and own[1] is None:
        return float("nan")
    a, b = (x.scores if y is None else y for x, y in zip((reference, engine), own, strict=True))
    return float(abs(a[i] - b[j]))
