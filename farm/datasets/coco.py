"""COCO annotations and COCO's average precision, by pycocotools as mmdet's `evaluate` uses it.

AP is the same figure as mmdet's. Its AP50 and the rest are taken at up to 1000 detections an image,
these at COCO's own 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from farm.datasets import segmentations
from farm.detections.convert import require_known_labels
from farm.errors import InputError, StepFailed, nearest
from farm.store.figures import AP_SUFFIXES

if TYPE_CHECKING:
    from farm.detections import Detections, ImageMeta


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
    """Return `box_ap`, `box_ap50` ... and with masks `mask_ap` ...; 0 to 1, None where undefined.

    And `box_ap_by_class` ..., the AP of each class by its name. found: one per image of `metas`,
    boxes in the original image's pixels. classes: of label 0, 1, ..., each the name of a category,
    whatever the order of those in the file.

    Raises:
        LabelOutOfRange: a label without a class.
        StepFailed: annotations without masks, or with such as pycocotools would misread or never
            finish.
    """
    coco = COCO(str(annotations))
    if masks:
        _require_masks(coco.dataset, classes)
    ids = {one["name"]: one["id"] for one in coco.dataset["categories"]}
    categories = {name: ids[name] for name in classes}
    images = [meta.image_id for meta in metas]
    figures: dict[str, Any] = {}
    for kind, prefix in (("bbox", "box"), ("segm", "mask"))[: 2 if masks else 1]:
        rows = _rows(found, metas, list(categories.values()), kind)
        values, by_class = _evaluate(coco, rows, kind, categories, images)
        figures |= {
            f"{prefix}_ap{suffix}": value for suffix, value in zip(AP_SUFFIXES, values, strict=True)
        }
        figures[f"{prefix}_ap_by_class"] = by_class
    return figures


def _require_masks(document: dict[str, Any], classes: Sequence[str]) -> None:
    """Check masks once more: `check` does only where it knows that the model has masks."""
    ids = {one["id"] for one in document["categories"] if one["name"] in classes}
    masked = [x for x in enumerate(document["annotations"]) if x[1]["category_id"] in ids]
    if fault := next(segmentations.faults(document["images"], masked), None):
        raise StepFailed(f"AP of masks cannot be computed: {fault}")


def _rows(
    found: Sequence[Detections], metas: Sequence[ImageMeta], categories: list[int], kind: str
) -> list[dict[str, Any]]:
    rows = []
    for one, meta in zip(found, metas, strict=True):
        require_known_labels(one, len(categories), meta.file_name)
        for i, (box, score, label) in enumerate(
            zip(one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), strict=True)
        ):
            row = {"image_id": meta.image_id, "category_id": categories[label], "score": score}
            if kind == "bbox":
                row["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            elif one.rles is not None:
                row["segmentation"] = one.rles[i]
                if one.mask_scores is not None:
                    row["score"] = float(one.mask_scores[i])
            rows.append(row)
    return rows


def _evaluate(
    coco: COCO,
    rows: list[dict[str, Any]],
    kind: str,
    categories: Mapping[str, int],
    images: list[int],
) -> tuple[list[float | None], dict[str, float | None]]:
    """COCOeval's first figures, and the AP of each of `categories`."""
    evaluation = COCOeval(coco, _results(coco, rows), kind)
    evaluation.params.catIds = list(categories.values())
    evaluation.params.imgIds = images
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    # COCOeval gives -1 where no object of that size exists.
    values = [
        float(v) if v > -1 else None for v in np.asarray(evaluation.stats[: len(AP_SUFFIXES)])
    ]
    return values, _by_class(evaluation, categories)


def _results(coco: COCO, rows: list[dict[str, Any]]) -> COCO:
    """Load results, of which there may be none: `loadRes` fails for an empty list."""
    if rows:
        return coco.loadRes(rows)
    results = COCO()
    results.dataset = {**coco.dataset, "annotations": []}
    results.createIndex()
    return results


def _by_class(evaluation: COCOeval, categories: Mapping[str, int]) -> dict[str, float | None]:
    """AP over all sizes at most detections; None for a class without objects."""
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoUs, recalls, sorted categories
    index = {category: k for k, category in enumerate(evaluation.params.catIds)}
    found = {}
    for name, category in categories.items():
        values = precision[:, :, index[category]]
        found[name] = float(values[values > -1].mean()) if (values > -1).any() else None
    return found
