"""COCO annotations and COCO's average precision, as mmdet's `evaluate` uses it.

AP is the same figure as mmdet's. Its AP50 and the rest are taken at up to 1000 detections an image,
these at COCO's own 100.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.datasets import segmentations
from farm.datasets.coco_evaluators import Floats64, Rows, Truth, image_matches, precision
from farm.datasets.matches import Matches, collected
from farm.datasets.mean_ap import mean_average_precision, rule_of
from farm.detections.convert import require_known_labels
from farm.errors import InputError, StepFailed, nearest
from farm.store.figures import AP_SUFFIXES

if TYPE_CHECKING:
    from farm.detections import Detections, ImageMeta


_ALL, _AP50, _AP75 = np.s_[:, :, :, 0], np.s_[0, :, :, 0], np.s_[5, :, :, 0]
_PARTS: tuple[Any, ...] = (_ALL, _AP50, _AP75, *(np.s_[:, :, :, size] for size in (1, 2, 3)))
"""Where the figures of `AP_SUFFIXES` are in what `precision` returns."""


def check_classes(annotations: dict[str, Any], classes: Sequence[str], path: str) -> None:
    """Check that every class of the model is a category of the data set.

    Raises:
        InputError: one is not, or two have the same name.
    """
    if twice := [name for i, name in enumerate(classes) if name in classes[:i]]:
        raise InputError(f"two of the model's classes are named {twice[0]!r}", path)
    names = [category["name"] for category in annotations["categories"]]
    if lost := [name for name in classes if name not in names]:
        raise InputError(
            f"the model's class {lost[0]!r} is not among the data set's categories"
            f"{nearest(lost[0], names)} ({len(lost)} of {len(classes)} are not)",
            path,
        )


def average_precision(
    annotations: Path,
    found: Sequence[Detections],
    metas: Sequence[ImageMeta],
    classes: Sequence[str],
    masks: bool,
) -> dict[str, Any]:
    """Return the figures of an `Evaluation`, which has the arguments and errors."""
    return Evaluation(annotations, found, metas, classes, masks).figures()


class Evaluation:
    """The detections of a data set beside its objects.

    found: one per image of `metas`, boxes in the original image's pixels. classes: of label 0, 1,
    ..., each the name of a category, whatever the order of those in the file.

    Raises:
        LabelOutOfRange: a label without a class.
        StepFailed: annotations without masks, or with such as pycocotools would misread or never
            finish.
    """

    def __init__(
        self,
        annotations: Path,
        found: Sequence[Detections],
        metas: Sequence[ImageMeta],
        classes: Sequence[str],
        masks: bool,
    ) -> None:
        document = json.loads(annotations.read_bytes())
        if masks:
            _require_masks(document, classes)
        ids = {one["name"]: one["id"] for one in document["categories"]}
        self._classes, self._categories = classes, [ids[name] for name in classes]
        self._truth = Truth(document, [meta.image_id for meta in metas], self._categories)
        self._rows = {
            kind: _rows(found, metas, self._categories, kind)
            for kind in ("box", "mask")[: 2 if masks else 1]
        }

    def figures(self) -> dict[str, Any]:
        """Return `box_ap`, `box_ap50` ..., with masks `mask_ap` ..., 0 to 1; None where undefined.

        And `box_ap_by_class` ..., the AP of each class by its name; `voc_map`, the mAP of boxes by
        the data set's own rule, where it has one.
        """
        figures: dict[str, Any] = {}
        for kind, rows in self._rows.items():
            curves = precision(self._truth, rows)
            values = [_mean(curves[part]) for part in _PARTS]
            names = (f"{kind}_ap{suffix}" for suffix in AP_SUFFIXES)
            figures |= zip(names, values, strict=True)
            by_class = _by_class(curves, self._classes, self._categories)
            figures[f"{kind}_ap_by_class"] = by_class
        if rule := rule_of(self._truth.document):
            own = mean_average_precision(self._truth, self._rows["box"], rule)
            figures["voc_map"] = own
        return figures

    def matches(self) -> dict[str, Matches]:
        """Return the matches of `box`, and of `mask` where there are masks: from them AP over any
        of the images can be computed."""
        images = len(set(self._truth.images))
        return {
            kind: collected(image_matches(self._truth, rows), images)
            for kind, rows in self._rows.items()
        }


def _require_masks(document: dict[str, Any], classes: Sequence[str]) -> None:
    """Check masks once more: `check` does only where it knows that the model has masks."""
    ids = {one["id"] for one in document["categories"] if one["name"] in classes}
    masked = [x for x in enumerate(document["annotations"]) if x[1]["category_id"] in ids]
    if fault := next(segmentations.faults(document["images"], masked), None):
        raise StepFailed(f"AP of masks cannot be computed: {fault}")


def _rows(
    found: Sequence[Detections], metas: Sequence[ImageMeta], categories: Sequence[int], kind: str
) -> Rows:
    """The detections of all images; of masks with their own scores, where they have some."""
    for one, meta in zip(found, metas, strict=True):
        require_known_labels(one, len(categories), meta.file_name)
    boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes for one in found)]).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    labels = np.concatenate([np.zeros(0, np.int64), *(one.labels for one in found)])
    images = np.array([meta.image_id for meta in metas], np.int64)
    scores, rles = [one.scores for one in found], None
    if kind == "mask":
        scores = [one.scores if one.mask_scores is None else one.mask_scores for one in found]
        rles = [rle for one in found for rle in one.rles or ()]
    return Rows(
        np.repeat(images, [len(one) for one in found]),
        np.array(categories, np.int64)[labels],
        np.concatenate([np.zeros(0), *scores]).astype(np.float64),
        boxes,
        rles,
    )


def _mean(curves: Floats64) -> float | None:
    """The mean as pycocotools takes it; None where no object of that size exists."""
    values = curves[curves > -1]
    return float(values.mean()) if len(values) else None


def _by_class(
    curves: Floats64, classes: Sequence[str], categories: Sequence[int]
) -> dict[str, float | None]:
    """AP of each class over all sizes; None for a class without objects."""
    index = {category: k for k, category in enumerate(sorted(categories))}
    return {
        name: _mean(curves[:, :, index[category], 0])
        for name, category in zip(classes, categories, strict=True)
    }
