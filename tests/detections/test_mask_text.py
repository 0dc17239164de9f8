"""Masks are run-length encoded from their windows, to pycocotools' own text of the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from farm.detections.masks import encode, paste
from farm.errors import WrongOutputs


def whole(inside: np.ndarray, top: int, left: int, height: int, width: int) -> str:
    full = np.zeros((height, width), np.uint8, order="F")
    full[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    text: str = coco_mask.encode(full)["counts"].decode("ascii")
    return text


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 1])
@pytest.mark.parametrize("tall", [False, True], ids=["part of the height", "the whole height"])
def test_a_window_has_the_text_of_the_whole_image(share: float, tall: bool) -> None:
    random = np.random.default_rng(3)
    for _ in range(60):
        height, width = random.integers(1, 40, 2).tolist()
        rows, columns = (int(random.integers(0, size + 1)) for size in (height, width))
        rows = height if tall else rows
        top, left = (int(random.integers(0, rest + 1)) for rest in (height - rows, width - columns))
        inside = random.random((rows, columns)) < share
        found = encode(inside, top, left, height, width)
        assert found == {
            "size": [height, width],
            "counts": whole(inside, top, left, height, width),
        }


def tent(pixels: np.ndarray, low: float, high: float, cells: int) -> np.ndarray:
    """Bilinear weights as they are defined, of each pixel and cell."""
    places = (pixels.astype(np.float32) + 0.5 - np.float32(low)) / np.float32(high - low)
    away = np.abs((places * cells - 0.5)[:, None] - np.arange(cells, dtype=np.float32))
    return np.maximum(0, 1 - away).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_pasted_masks_are_those_of_weights_for_the_whole_image(threshold: float) -> None:
    random = np.random.default_rng(4)
    masks = random.random((40, 14, 28), np.float32)
    corners = random.uniform(-30, 90, (40, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 70, (40, 2))], 1).astype("f4")
    boxes[:2] = [[0, 0, 96, 80], [10, 10, 10, 40]]  # the whole image; no width
    for mask, box, rle in zip(masks, boxes, paste(masks, boxes, 80, 96, threshold), strict=True):
        expected = np.zeros((80, 96), bool)
        if box[0] < box[2]:
            rows = tent(np.arange(80), box[1], box[3], 14)
            columns = tent(np.arange(96), box[0], box[2], 28)
            expected = rows @ mask @ columns.T >= threshold
        # A pixel whose probability is the threshold to the last bit may fall on either side.
        assert (expected != coco_mask.decode(rle)).sum() <= 1
    assert paste(masks[:0], boxes[:0], 80, 96, 0.5) == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_mask_in_a_box_that_is_not_finite_is_refused(value: float) -> None:
    masks, boxes = np.ones((1, 7, 7), np.float32), np.float32([[0, 0, value, 9]])
    with pytest.raises(WrongOutputs, match="a box of NaN or infinity"):
        paste(masks, boxes, 20, 20, 0.5)
