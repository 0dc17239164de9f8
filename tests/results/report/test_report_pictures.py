"""What a picture of boxes is made of: its size, its colours, and what is drawn over what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_cases import boxes

from farm.results.report import pictures
from farm.results.report.disagreements import Side
from farm.specs import Ref
from farm.store import Store

SAME, APART, ALONE = (94, 158, 47), (44, 132, 232), (60, 60, 225)
"""Green, orange and red, in OpenCV's order."""


def pipeline(order: str, *steps: dict[str, Any]) -> str:
    decode = {"color_type": "color", "channel_order": order, "to_float32": False}
    return json.dumps({"decode": decode, "steps": steps})


def normalize(to_rgb: bool) -> dict[str, Any]:
    return {"normalize": {"mean": [1.0, 2.0, 3.0], "std": [2.0, 2.0, 2.0], "to_rgb": to_rgb}}


@pytest.mark.parametrize(
    ("prepared_by", "shown"),
    [
        (pipeline("bgr"), (10, 20, 300)), (pipeline("rgb"), (300, 20, 10)),
        (pipeline("bgr", normalize(False)), (21, 42, 603)),
        (pipeline("bgr", normalize(True)), (603, 42, 21)),
        (pipeline("rgb", normalize(True)), (21, 42, 603)),
    ],
)  # fmt: skip
def test_how_an_image_was_prepared_is_undone(prepared_by: str, shown: tuple[int, ...]) -> None:
    image = np.zeros((3, 1, 2), np.float32) + np.array([[[10]], [[20]], [[300]]], np.float32)
    found = pictures._as_picture(image, prepared_by)
    assert found.dtype == np.uint8 and found.shape == (1, 2, 3)
    assert found[0, 1].tolist() == [min(value, 255) for value in shown]


def test_the_values_of_mmdetections_own_pipelines_are_stretched() -> None:
    image = np.array([[[-2.0]], [[1.75]], [[3.0]]], np.float32)
    for factor in (1, 0.1):
        stretched = pictures._as_picture(image * np.float32(factor), "[]")
        assert stretched.ravel().tolist() == [0, 191, 255]
    assert not pictures._as_picture(np.full_like(image, 7), "[]").any()
    assert pictures._as_picture(image * 1e-9, "[]").max() < 2  # noise is not made visible


@pytest.mark.parametrize(
    ("size", "scale"),
    [((80, 100), 4.0), ((319, 7), 2.0), ((7, 320), 1.0), ((420, 400), 1.0), ((105, 840), 0.5)],
)
def test_small_images_are_enlarged_by_whole_factors_and_large_ones_reduced(
    size: tuple[int, int], scale: float
) -> None:
    assert pictures._scale(np.zeros((*size, 3), np.uint8)) == scale


def test_boxes_beyond_all_bounds_are_drawn_at_their_edge() -> None:
    image = np.zeros((50, 100, 3), np.uint8)
    box = np.array([np.nan, -np.inf, np.inf, 401.0], np.float32)
    assert pictures._bounded(box, image) == [-1.0, -400.0, 400.0, 400.0]


def side(**kinds: set[int]) -> Side:
    """Three boxes in one place."""
    alone, apart = (frozenset(kinds.get(name, set())) for name in ("alone", "apart"))
    found = boxes((20, 0.9), (20, 0.9), (20, 0.9))
    return Side(found, frozenset(range(3)), alone, apart, (0.0, 0.0, None))


@pytest.mark.parametrize(
    ("kinds", "colour", "width"),
    [({}, SAME, 1), ({"apart": {0}}, APART, 2), ({"alone": {1}, "apart": {2, 0}}, ALONE, 2)],
)
def test_boxes_that_differ_lie_over_those_that_do_not_and_are_wider(
    kinds: dict[str, set[int]], colour: tuple[int, ...], width: int
) -> None:
    drawn = pictures._drawn(np.zeros((60, 60, 3), np.uint8), side(**kinds), 1.0)
    assert (drawn[20, 40] == colour).all()
    top = max(range(3), key=lambda index: pictures._rank(index, side(**kinds)))
    assert pictures._look(top, side(**kinds)) == (colour, width)


def test_a_box_is_scaled_with_its_image() -> None:
    drawn = pictures._drawn(np.zeros((60, 60, 3), np.uint8), side(), 2.0)
    assert drawn.shape == (120, 120, 3)
    assert (drawn[80, 40:81] == SAME).all() and (drawn[40:81, 80] == SAME).all()
    assert not drawn[82:].any() and not drawn[:, 82:].any()


def test_the_score_of_a_box_that_begins_outside_is_in_the_picture() -> None:
    found = Side(boxes((-10, 0.9)), frozenset({0}), frozenset(), frozenset(), (0.0, 0.0, None))
    drawn = pictures._drawn(np.full((60, 60, 3), 7, np.uint8), found, 1.0)
    drawn[10, :11] = drawn[:11, 10] = 7  # the edges of the box
    rows, columns = np.nonzero((drawn != 7).any(2))
    assert (rows.min(), rows.max()) == (3, 12) and (columns.min(), columns.max()) == (2, 26)
    assert (drawn == 255).all(2).any() and (drawn == SAME).all(2).any()


def test_images_that_are_not_here_are_said_to_be_not_whole(tmp_path: Path) -> None:
    drawer = pictures.Pictures(Store(tmp_path))
    with pytest.raises(OSError):
        drawer(Ref("prepare", "a" * 64), 0, side(), side())
