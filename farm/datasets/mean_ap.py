"""Mean average precision as Pascal VOC and MMDetection define it: at the IoU 0.5, by class.

M. Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2010; the figures are those
of `mmdet.core.evaluation.eval_map`. A detection belongs to the object that it overlaps most: the
first one of an object is true, later ones are false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from farm.datasets.coco_evaluators import Floats64, Rows, Truth

IOU = 0.5

_LEAST = float(np.finfo(np.float32).eps)
"""What MMDetection divides by in place of 0."""


@dataclass(frozen=True)
class Rule:
    """How mAP is computed.

    points: 11 for the mean of the precisions at the recalls 0, 0.1, ..., 1 (VOC2007), 0 for the
    area under the whole curve. offset: 1 where a box has its last pixel's number as its end, so
    that its width is x2 - x1 + 1, as in Pascal VOC; else 0.
    """

    points: int = 0
    offset: int = 0

    def as_json(self) -> dict[str, int]:
        """Return it for an annotation file."""
        return asdict(self)


def rule_of(document: Mapping[str, Any]) -> Rule | None:
    """Return the rule of an annotation file's mAP; None where COCO's figures are its only ones."""
    found = document.get("mean_ap")
    if found not in [asdict(Rule(points, offset)) for points in (0, 11) for offset in (0, 1)]:
        return None
    return Rule(**found)


def mean_average_precision(truth: Truth, rows: Rows, rule: Rule) -> float | None:
    """Return the mean AP of the classes that have objects, 0 to 1; None where none has.

    truth: crowds are neither to be found nor wrong to find. rows: boxes, all that an image has.
    """
    objects = _by_category(truth)
    found = [
        _average_precision(objects.get(category, {}), rows, rows.categories == category, rule)
        for category in truth.categories
    ]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class _Objects:
    """Of one class in one image. boxes: [G, 4], x1 y1 x2 y2. ignored: [G]."""

    boxes: Floats64
    ignored: npt.NDArray[np.bool_]


def _by_category(truth: Truth) -> dict[int, dict[int, _Objects]]:
    """The objects of the images that count, by category and image."""
    images, listed = set(truth.images), dict[tuple[int, int], list[dict[str, Any]]]()
    for one in truth.document["annotations"]:
        if one["image_id"] in images:
            listed.setdefault((one["category_id"], one["image_id"]), []).append(one)
    found: dict[int, dict[int, _Objects]] = {}
    for (category, image), own in listed.items():
        boxes = _corners(np.array([one["bbox"] for one in own], np.float64))
        ignored = np.array([bool(one["iscrowd"]) for one in own])
        found.setdefault(category, {})[image] = _Objects(boxes, ignored)
    return found


def _corners(boxes: Floats64) -> Floats64:
    """x y width height -> x1 y1 x2 y2."""
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def _average_precision(
    objects: Mapping[int, _Objects], rows: Rows, own: npt.NDArray[np.bool_], rule: Rule
) -> float | None:
    """AP of one class. own: which rows are of it [N]."""
    count = sum(int((~one.ignored).sum()) for one in objects.values())
    if not count:
        return None
    scores, images, boxes = rows.scores[own], rows.images[own], _corners(rows.boxes[own])
    order = np.argsort(-scores, kind="stable")
    images, boxes = images[order], boxes[order]
    true, false = np.zeros(len(order)), np.zeros(len(order))
    for image in np.unique(images):
        (places,) = np.nonzero(images == image)
        true[places], false[places] = _judged(boxes[places], objects.get(int(image)), rule)
    hits, misses = true.cumsum(), false.cumsum()
    recalls, precisions = hits / count, hits / np.maximum(hits + misses, _LEAST)
    return _at_points(recalls, precisions) if rule.points else _area(recalls, precisions)


def _judged(
    boxes: Floats64, objects: _Objects | None, rule: Rule
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which detections of an image are true and which false [D]: the best score first."""
    true, false = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    if objects is None:
        return true, false
    overlaps = _overlaps(boxes, objects.boxes, rule.offset)
    best, taken = overlaps.argmax(1), np.zeros(len(objects.boxes), bool)
    for i, place in enumerate(best):
        if overlaps[i, place] < IOU:
            continue
        true[i] = not (taken[place] or objects.ignored[place])
        false[i] = not (true[i] or objects.ignored[place])
        taken[place] = True
    return true, false


def _overlaps(one: Floats64, other: Floats64, offset: int) -> Floats64:
    """IoU of all pairs [D, G]."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.clip(high - low + offset, 0, None).prod(2)
    areas = [(part[:, 2:] - part[:, :2] + offset).prod(1) for part in (one, other)]
    union = areas[0][:, None] + areas[1][None] - common
    found: Floats64 = common / np.maximum(union, 1e-6)
    return found


def _area(recalls: Floats64, precisions: Floats64) -> float:
    """The area under the curve, where a precision is the best one at this recall or a higher."""
    ends = np.concatenate([[0.0], recalls, [1.0]])
    best = np.maximum.accumulate(np.concatenate([precisions, [0.0]])[::-1])[::-1]
    return float(np.sum(np.diff(ends) * best))


def _at_points(recalls: Floats64, precisions: Floats64) -> float:
    """The mean of the best precisions at recalls of at least 0, 0.1, ..., 1."""
    reached = [precisions[recalls >= least] for least in np.arange(0, 1 + 1e-3, 0.1)]
    return sum(float(one.max()) if one.size else 0.0 for one in reached) / 11
