"""COCO annotations and COCO's average precision, by pycocotools as mmdet's `evaluate` uses it.

AP is the same figure as mmdet's. Its AP50 and the rest are taken at up to 1000 detections an image,
these at COCO's own 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from farm.detections import Detections, ImageMeta
from farm.errors import InputError, nearest

SUMMARY = ("", "50", "75", "_s", "_m", "_l")
"""COCOeval's first six figures: AP, AP50, AP75, and by the objects' size."""


def check_classes(annotations: dict[str, Any], classes: Sequence[str], path: str) -> None:
    """Every class of the model must be a category of the data set. Raises InputError."""
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
) -> dict[str, float | None]:
    """`box_ap`, `box_ap50` ... and with masks `mask_ap` ...; 0 to 1, None where undefined.

    found: one per image of `metas`, boxes in the original image's pixels.
    """
    coco = COCO(str(annotations))
    # mmdet numbers labels in the order of the annotation file, not of its own classes.
    categories = [one["id"] for one in coco.dataset["categories"] if one["name"] in classes]
    figures: dict[str, float | None] = {}
    for kind, prefix in (("bbox", "box"), ("segm", "mask"))[: 2 if masks else 1]:
        rows = _rows(found, metas, categories, kind)
        values = _evaluate(coco, rows, kind, categories, [meta.image_id for meta in metas])
        figures |= {
            f"{prefix}_ap{name}": value for name, value in zip(SUMMARY, values, strict=True)
        }
    return figures


def _rows(
    found: Sequence[Detections], metas: Sequence[ImageMeta], categories: list[int], kind: str
) -> list[dict[str, Any]]:
    rows = []
    for one, meta in zip(found, metas, strict=True):
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
    coco: COCO, rows: list[dict[str, Any]], kind: str, categories: list[int], images: list[int]
) -> list[float | None]:
    evaluation = COCOeval(coco, _results(coco, rows), kind)
    evaluation.params.catIds = categories
    evaluation.params.imgIds = images
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    # COCOeval says -1 where no object of that size exists.
    return [float(v) if v > -1 else None for v in np.asarray(evaluation.stats[: len(SUMMARY)])]


def _results(coco: COCO, rows: list[dict[str, Any]]) -> COCO:
    """`loadRes` fails for an empty list, which is an answer too."""
    if rows:
        return coco.loadRes(rows)
    results = COCO()
    results.dataset = {**coco.dataset, "annotations": []}
    results.createIndex()
    return results
