"""What the table of models takes for the same detector, and which weights it does not try."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask

from farm.detections import Detections
from farm.detections.compare import compare
from farm.detections.matching import match
from farm.models.verdict import SAME, weights_unusable
from farm.specs import Tolerance


def answers(count: int = 24, classes: int = 4, spread: float = 2.0, score: float = 0.9) -> Any:
    """One image's boxes: the largest is `spread` times as large as the smallest."""
    edges = np.linspace(10, 10 * spread, count, dtype=np.float32)
    corner = np.arange(count, dtype=np.float32) * 100
    boxes = np.stack([corner, corner, corner + edges, corner + edges], 1)
    scores = np.full(count, score, np.float32)
    return Detections(boxes, scores, np.arange(count) % classes)


def moved(by: float) -> dict[str, npt.NDArray[Any]]:
    """Pairs of the answers and the same ones whose scores have moved."""
    return vars(match([answers()], [answers(score=0.9 + by)]))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (answers(), None),
        (answers(score=0.2), "find 0 boxes of 0 classes: nothing to compare"),
        (answers(19), "find 19 boxes of 4 classes: nothing to compare"),
        (answers(classes=2), "find 24 boxes of 2 classes: nothing to compare"),
        (answers(spread=1.2), "find boxes of 10 to 12 px: one size"),
    ],
)
def test_weights_that_find_little_are_told(found: Detections, told: str | None) -> None:
    reason = weights_unusable([found, answers(0)], 80, [moved(0)])
    assert reason == (told and f"the random weights {told}")


def test_a_model_of_two_classes_needs_no_third() -> None:
    assert weights_unusable([answers(classes=2)], 2, [moved(0)]) is None


def test_answers_that_hang_on_the_last_digits_are_told() -> None:
    assert weights_unusable([answers()], 80, [moved(0), moved(4e-4)]) is None
    chaotic = "the random weights are chaotic: with an image moved by 2e-7, "
    for by, reason in ((6e-4, "scores differ by 6.0e-04"), (2e-3, "scores differ by 2.0e-03")):
        assert weights_unusable([answers()], 80, [moved(0), moved(by)]) == chaotic + reason
    lost = vars(match([answers()], [answers(23)]))
    reason = weights_unusable([answers()], 80, [lost])
    assert reason is not None and reason.startswith(f"{chaotic}of 24 boxes 1 are lost, 0 added")


def test_masks_that_an_engine_lost_are_no_same_detector() -> None:
    boxes, scores = np.float32([[0, 0, 8, 8]]), np.float32([0.9])
    labels, rle = np.zeros(1, np.int64), coco_mask.encode(np.ones((8, 8), np.uint8, order="F"))
    whole = Detections(boxes, scores, labels, rles=(rle,))
    bare = Detections(boxes, scores, labels)
    for pair, same in (((whole, whole), True), ((bare, bare), True), ((whole, bare), False)):
        of_table, of_sweep = (compare([pair[0]], [pair[1]], how) for how in (SAME, Tolerance()))
        assert (of_table.reason is None, of_sweep.reason is None) == (same, same)
