"""The pictures of the report: which cells and images are shown, what is drawn, what is left out."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from report_cases import KEYS, MASKED, boxes, remove, verified_row, verified_store

from farm.config.loader import Matrix
from farm.errors import InputError
from farm.results.report.disagreements import Disagreement, compared, disagreements
from farm.results.report.pictures import Pictures
from farm.results.report.whole import report_of
from farm.specs import Tolerance
from farm.store import Store


def found(store: Store, *rows: dict[str, Any], **limits: Any) -> list[Disagreement]:
    def tolerance(sweep: str, precision: str) -> Tolerance:
        assert (sweep, precision) == ("s", "fp32")
        return Tolerance(**limits)

    return list(disagreements(rows, store, tolerance, Pictures(store)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return verified_store(tmp_path / "store")


def test_the_worst_images_come_first_and_those_that_agree_not_at_all(store: Store) -> None:
    added, lost = found(store, verified_row())
    assert (added.image, added.lost, added.added, added.apart) == ("image1.jpg", 0, 1, 1)
    assert added.max_score_diff == pytest.approx(0.1) and added.min_mask_iou is None
    assert (lost.image, lost.lost, lost.added, lost.apart) == ("image0.jpg", 1, 0, 0)


def test_the_tolerance_decides_what_is_a_disagreement(store: Store) -> None:
    assert found(store, verified_row(), min_score=0.92) == []
    (only,) = found(store, verified_row(), min_score=0.6, max_score_diff=0.2)
    assert (only.image, only.lost) == ("image0.jpg", 1)


def test_that_default_tolerances_are_used_is_said(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    def matrix_of(sweep: str) -> Matrix:
        raise InputError("the sweep's matrix is not kept here; run it again", sweep)

    report_of({"cpu": [verified_row(), verified_row("two", model="b")]}, store, matrix_of)
    assert capsys.readouterr().err.splitlines() == [
        "the pictures of s are drawn by default tolerances: "
        "s: the sweep's matrix is not kept here; run it again"
    ]


def decoded(shown: Disagreement) -> npt.NDArray[np.int64]:
    head, data = shown.picture.split(",")
    assert head == "data:image/jpeg;base64" and len(data) < 40_000
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture.astype(np.int64)


def test_the_picture_shows_the_image_and_the_boxes_of_both_sides(store: Store) -> None:
    lost = found(store, verified_row())[1]
    picture = decoded(lost)
    assert picture.shape == (320, 808, 3)  # 4 times 80 x 100, twice, with a gap
    assert np.abs(picture[300, 380].astype(int) - (0, 0, 250)).max() < 12  # red, in OpenCV's order
    left, right = picture[:, :400], picture[:, 408:]
    # The lost box (40 to 60) is on the left side only; that of both (5 to 25) is on either.
    changed = np.abs(left.astype(int) - right.astype(int)).max(2) > 60
    rows, columns = np.nonzero(changed)
    assert rows.min() > 140 and columns.min() > 140 and rows.max() < 260
    assert (np.abs(left[20:100, 20:100].astype(int) - (0, 0, 250)).max(2) > 60).any()


def test_masks_are_drawn_in_the_colours_of_their_boxes(tmp_path: Path) -> None:
    """Of the box at 5 to 25 PyTorch's mask is whole, the engine's its upper half; each pixel is
    drawn as four by four."""
    store = verified_store(tmp_path / "store", *MASKED)
    (only,) = found(store, verified_row())
    assert (only.image, only.lost, only.added, only.apart) == ("image0.jpg", 0, 0, 1)
    assert only.min_mask_iou == pytest.approx(0.5)
    picture = decoded(only)
    left, right = picture[:, :400], picture[:, 408:]
    red, orange, green = np.array([0, 0, 250]), np.array([44, 132, 232]), np.array([94, 158, 47])
    upper, lower = (slice(40, 50), slice(50, 80)), (slice(72, 84), slice(50, 80))
    for half, area, colour in (
        (left, upper, orange), (left, lower, orange), (right, upper, orange), (right, lower, None),
    ):  # fmt: skip
        expected = red if colour is None else 0.55 * red + 0.45 * colour
        assert np.abs(half[area].reshape(-1, 3).mean(0) - expected).max() < 12
    same = (slice(185, 215), slice(185, 215))  # the box at 40 to 60, which is equal
    for half in (left, right):
        assert np.abs(half[same].reshape(-1, 3).mean(0) - (0.55 * red + 0.45 * green)).max() < 12


def test_results_from_before_masks_were_kept_have_pictures_without_the_engines(
    tmp_path: Path,
) -> None:
    pytorch, engine = MASKED
    kept = [replace(one, rles=None) for one in engine]
    (only,) = found(verified_store(tmp_path / "store", pytorch, engine, kept), verified_row())
    picture = decoded(only)
    inside = picture[40:50, 50:80], picture[40:50, 458:488]
    assert np.abs(inside[1].reshape(-1, 3).mean(0) - (0, 0, 250)).max() < 12
    assert np.abs(inside[0] - inside[1]).max(2).min() > 40


def test_one_cell_of_each_kind_is_shown_those_that_failed_first(store: Store) -> None:
    rows = [
        verified_row("a"),
        verified_row("same kind", opset=11),
        verified_row("b", runtime="openvino", status="failed", failed_stage="verify"),
        verified_row("c", precision="fp16") | {"matched_fraction": 0.9},
    ]
    cells = [
        one.cell for one in disagreements(rows, store, lambda *_: Tolerance(), Pictures(store))
    ]
    assert cells == ["b", "b", "a", "a", "c", "c"]
    others = [verified_row(str(number), model=str(number)) for number in range(9)]
    assert len({one.cell for one in found(store, *others)}) == 4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"status": "failed", "failed_stage": "verify"}, {"matched_fraction": 0.1}),
        ({"matched_fraction": 0.4}, {"matched_fraction": 0.5}),
        ({"matched_fraction": 0.4}, {"status": "failed", "failed_stage": "measure"}),
        ({"max_score_diff": 0.2}, {"max_score_diff": 0.1}),
        ({"max_score_diff": 0.1}, {"max_score_diff": None}),
    ],
)
def test_the_cells_that_are_furthest_from_pytorch_come_first(
    first: dict[str, Any], second: dict[str, Any], store: Store
) -> None:
    rows = [verified_row("b", model="b") | second, verified_row("a", model="a") | first]
    assert [one.cell for one in found(store, *rows)] == ["a", "a", "b", "b"]


def test_an_image_is_the_worse_the_more_boxes_either_side_lacks(tmp_path: Path) -> None:
    pytorch = [boxes((5, 0.9)), boxes((5, 0.9), (40, 0.9), (70, 0.9)), boxes((5, 0.9))]
    engine = [boxes((5, 0.9), (40, 0.9)), boxes((5, 0.9)), boxes((5, 0.9))]
    store = verified_store(tmp_path / "store", pytorch, engine)
    images = [(one.image, one.lost, one.added) for one in found(store, verified_row())]
    assert images == [("image1.jpg", 2, 0), ("image0.jpg", 0, 1)]


@pytest.mark.parametrize(
    ("limits", "apart"),
    [
        ({}, 0), ({"max_score_diff": 0.24}, 1), ({"max_box_diff_px": 1.9}, 1),
        ({"min_iou": 0.76}, 1), ({"min_mask_iou": 0.51}, 1), ({"min_score": 0.76}, 0),
        ({"max_score_diff": 0.24, "min_score": 0.75}, 1),
    ],
)  # fmt: skip
def test_a_pair_that_is_as_far_apart_as_it_may_be_agrees(
    limits: dict[str, Any], apart: int
) -> None:
    allowed: dict[str, Any] = {
        "max_score_diff": 0.25, "max_box_diff_px": 2.0, "min_iou": 0.75, "min_score": 0.5,
        "min_mask_iou": 0.5,
    }  # fmt: skip
    pairs = {
        name: np.array([value], np.float32)
        for name, value in {
            "reference_score": 0.5, "engine_score": 0.75, "iou": 0.75, "box_diff_px": 2.0,
            "mask_iou": 0.5, "mask_score_diff": np.nan,
        }.items()
    }  # fmt: skip
    own = boxes((5, 0.5)), boxes((5, 0.75))
    pytorch, engine = compared(*own, pairs, Tolerance(**{**allowed, **limits}))
    assert (len(pytorch.apart), len(engine.apart)) == (apart, apart)
    assert pytorch.alone == engine.alone == frozenset()
    if not limits:
        assert pytorch.counted == engine.counted == {0}
        assert pytorch.largest == engine.largest == (0.25, 2.0, 0.5)


def test_where_no_pair_counts_nothing_differs() -> None:
    names = ("reference_score", "engine_score", "iou", "box_diff_px", "mask_iou", "mask_score_diff")
    nothing = {name: np.empty(0, np.float32) for name in names}
    pytorch, engine = compared(boxes(), boxes(), nothing, Tolerance())
    assert pytorch.largest == engine.largest == (0.0, 0.0, None)


@pytest.mark.parametrize("stage", KEYS)
def test_cells_whose_boxes_or_images_are_not_here_are_passed_over(stage: str, store: Store) -> None:
    remove(store, stage)
    assert found(store, verified_row()) == []


def test_what_was_altered_or_not_compared_here_is_passed_over(store: Store) -> None:
    assert found(store, verified_row(origin="abcd import")) == []
    assert found(store, verified_row() | {"matched_fraction": None}) == []
    path = next((store.root / "verify").glob("*/*/detections.npz"))
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    assert found(store, verified_row()) == []
