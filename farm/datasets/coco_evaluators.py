"""COCO's precision over recall, by hotcoco or by pycocotools: the same numbers to the last bit.

hotcoco is pycocotools written anew in Rust, and ten to fifty times faster. Where it is not
installed, pycocotools does its work; a step's key says which of the two was there. Both match at
COCO's own ten IoUs and four sizes, at most 100 detections an image and class.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.datasets.hotcoco_evaluation import by_hotcoco, evaluation_of

Ids = npt.NDArray[np.int64]
Floats64 = npt.NDArray[np.float64]


IOUS = 10
"""COCO's: from 0.5 in steps of 0.05."""


@dataclass(frozen=True)
class Truth:
    """The objects of a data set: an annotation file as stage `prepare` leaves it.

    document: `images`, `annotations` and `categories`. images, categories: ids of those that count.
    """

    document: dict[str, Any]
    images: Sequence[int]
    categories: Sequence[int]


@dataclass(frozen=True)
class Rows:
    """The detections of all images, N rows; equal scores of an image rank in this order.

    images, categories: ids [N]. scores: float64 [N]. boxes: float64 [N, 4], x y width height in
    pixels. rles: where masks are matched, a run-length encoded mask for each row.
    """

    images: Ids
    categories: Ids
    scores: Floats64
    boxes: Floats64
    rles: Sequence[dict[str, Any]] | None = None


@dataclass(frozen=True)
class ImageMatches:
    """The detections of one image and category, best score first, at most 100.

    image, category: numbers from 0, in the order of the ids. scores: float64 [D]. matched, ignored:
    [IoUs, D]; an ignored one is neither a true nor a false positive, as it lies on a crowd.
    objects: how many there are to be found.
    """

    image: int
    category: int
    scores: Floats64
    matched: npt.NDArray[np.bool_]
    ignored: npt.NDArray[np.bool_]
    objects: int


Evaluator = Callable[[Truth, Rows], Floats64]


def precision(truth: Truth, rows: Rows) -> Floats64:
    """Match boxes, or masks where the rows have them.

    Returns the precision [IoUs, 101 recalls, categories by their ids, sizes]: IoUs from 0.5 in
    steps of 0.05; all sizes, small, medium, large; -1 where a category has no object of that size.
    """
    return evaluator(rows)(truth, rows)


def evaluator(rows: Rows) -> Evaluator:
    """Return hotcoco's; pycocotools' where that is not installed, or a row has a NaN.

    A NaN is an object found to pycocotools, and none, or an error, to hotcoco.
    """
    if not _hotcoco_is_installed() or np.isnan(rows.boxes).any() or np.isnan(rows.scores).any():
        return by_pycocotools
    return by_hotcoco


@cache
def _hotcoco_is_installed() -> bool:
    """By its metadata, as in a step's key: a copy that is broken is an error, never replaced."""
    try:
        importlib.metadata.distribution("hotcoco")
    except importlib.metadata.PackageNotFoundError:
        return False
    # What it computes is over before threads pay, and a step has the cores that it was given.
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    return True


def image_matches(truth: Truth, rows: Rows) -> list[ImageMatches]:
    """Match as `precision` does, objects of all sizes only, and return what AP is computed from.

    There is nothing for an image and category with neither objects nor detections.
    """
    by_hotcocos = evaluator(rows) is by_hotcoco
    evaluation = evaluation_of(truth, rows) if by_hotcocos else _of_pycocotools(truth, rows)
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ["all"]
    evaluation.params.maxDets = [100]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    ids = np.unique(truth.images), np.unique(truth.categories)
    if by_hotcocos:  # which has them by number
        ids = np.arange(1, len(ids[0]) + 1), np.arange(1, len(ids[1]) + 1)
    with _without_collection():
        return [_image_matches(one, *ids) for one in evaluation.evalImgs if one is not None]


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Millions of lists at once: looking for cycles among them takes four times as long as they."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _image_matches(one: dict[str, Any], images: Ids, categories: Ids) -> ImageMatches:
    scores = np.array(one["dtScores"], np.float64)
    shape = IOUS, len(scores)
    return ImageMatches(
        int(np.searchsorted(images, one["image_id"])),
        int(np.searchsorted(categories, one["category_id"])),
        scores,
        np.array(one["dtMatches"]).reshape(shape) != 0,
        np.array(one["dtIgnore"], bool).reshape(shape),
        int(np.count_nonzero(np.logical_not(one["gtIgnore"]))),
    )


def by_pycocotools(truth: Truth, rows: Rows) -> Floats64:
    """Return the precision by pycocotools, as mmdet's `evaluate` does; nothing is printed."""
    evaluation = _of_pycocotools(truth, rows)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    curves: Floats64 = evaluation.eval["precision"][..., -1]
    return curves


def _of_pycocotools(truth: Truth, rows: Rows) -> Any:
    """What is to be evaluated."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        # It writes into the entries.
        known.dataset = {
            **truth.document, "annotations": [dict(one) for one in truth.document["annotations"]]
        }  # fmt: skip
        known.createIndex()
        kind = "bbox" if rows.rles is None else "segm"
        evaluation = COCOeval(known, _as_coco(known, rows), kind)
        evaluation.params.imgIds = list(truth.images)
        evaluation.params.catIds = list(truth.categories)
    return evaluation


def _as_coco(known: Any, rows: Rows) -> Any:
    """Load the rows, of which there may be none: `loadRes` fails for an empty list."""
    from pycocotools.coco import COCO

    columns = zip(rows.images.tolist(), rows.categories.tolist(), rows.scores.tolist(), strict=True)
    named = [
        {"image_id": image, "category_id": category, "score": score}
        for image, category, score in columns
    ]
    if named and rows.rles is None:
        boxes = rows.boxes.tolist()
        return known.loadRes([{**a, "bbox": b} for a, b in zip(named, boxes, strict=True)])
    if named:
        rles = rows.rles or ()
        return known.loadRes([{**a, "segmentation": b} for a, b in zip(named, rles, strict=True)])
    results = COCO()
    results.dataset = {**known.dataset, "annotations": []}
    results.createIndex()
    return results
