"""COCO's precision over recall by hotcoco, which is pycocotools written anew in Rust."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from farm.datasets.coco_evaluators import Floats64, Ids, Rows, Truth


def by_hotcoco(truth: Truth, rows: Rows) -> Floats64:
    """Return the precision by hotcoco."""
    evaluation = evaluation_of(truth, rows)
    evaluation.evaluate()
    evaluation.accumulate()
    curves: Floats64 = evaluation.eval["precision"][..., -1]
    return curves


def evaluation_of(truth: Truth, rows: Rows) -> Any:
    """Return the evaluation, which has not been run yet.

    It is given columns, with images and categories numbered from 1 in the order of their ids: so
    it parses nothing, and ids of any size are equal to it.
    """
    from hotcoco import COCO, COCOeval

    images, categories = np.unique(truth.images), np.unique(truth.categories)
    objects = _counted(truth)
    masks = None if rows.rles is None else [one["segmentation"] for one in objects]
    known = COCO.from_arrays(
        _numbered_images(truth, images, rows.rles is not None),
        [{"id": i, "name": str(i)} for i in range(1, len(categories) + 1)],
        _numbers(images, [one["image_id"] for one in objects]),
        _numbers(categories, [one["category_id"] for one in objects]),
        np.array([one["bbox"] for one in objects], np.float64).reshape(-1, 4),
        ids=np.arange(1, len(objects) + 1),
        area=np.array([one["area"] for one in objects], np.float64),
        iscrowd=np.array([one["iscrowd"] for one in objects], np.int64),
        segmentation=masks,
    )
    numbered = _numbers(images, rows.images), _numbers(categories, rows.categories)
    found = known.load_res(_results(rows, *numbered))
    evaluation = COCOeval(known, found, "bbox" if rows.rles is None else "segm")
    evaluation.params.img_ids = list(range(1, len(images) + 1))
    evaluation.params.cat_ids = list(range(1, len(categories) + 1))
    return evaluation


def _counted(truth: Truth) -> list[dict[str, Any]]:
    """The objects that count; of others the segmentations may be anything."""
    images, categories = set(truth.images), set(truth.categories)
    return [
        one
        for one in truth.document["annotations"]
        if one["image_id"] in images and one["category_id"] in categories
    ]


def _numbered_images(truth: Truth, ids: Ids, masks: bool) -> list[dict[str, Any]]:
    """The images that count; boxes need no sizes of them, which may then be missing or odd."""
    sizes = {one["id"]: one for one in truth.document["images"]} if masks else {}
    found = []
    for number, image in enumerate(ids.tolist(), start=1):
        size = sizes[image] if masks else {"height": 0, "width": 0}
        found.append({"id": number, "height": size["height"], "width": size["width"]})
    return found


def _numbers(known: Ids, ids: Any) -> Ids:
    numbers: Ids = np.searchsorted(known, np.asarray(ids, np.int64)) + 1
    return numbers


def _results(rows: Rows, images: Ids, categories: Ids) -> Any:
    """The rows as `load_res` takes them. In its table the area would be the box's also of masks."""
    if rows.rles is None:
        return np.column_stack([images, rows.boxes, rows.scores, categories])
    columns = zip(
        images.tolist(), categories.tolist(), rows.scores.tolist(), rows.rles, strict=True
    )
    return [
        {"image_id": image, "category_id": category, "score": score, "segmentation": rle}
        for image, category, score, rle in columns
    ]
