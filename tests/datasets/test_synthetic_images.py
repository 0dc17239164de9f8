"""The drawn data set by its public functions: bytes by seed, annotations by pixel, sizes, forms."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pycocotools import mask as coco_mask

from farm.datasets.synthetic import CLASSES, MOST_OBJECTS, WIDTHS, Scene, draw, draw_scene

SIZES = (32, 33, 64, 97, 160)

Mask = npt.NDArray[np.bool_]


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@functools.cache
def scenes(size: int, count: int = 40) -> list[Scene]:
    return [draw_scene(3, number, size) for number in range(1, count + 1)]


@pytest.mark.parametrize("size", SIZES)
def test_a_seed_and_a_size_give_the_same_bytes_and_no_other_seed_does(
    size: int, tmp_path: Path
) -> None:
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        draw(tmp_path / name, 2, seed, size)
    one, again, other = (files_of(tmp_path / name) for name in ("one", "again", "other"))
    assert sorted(one) == ["annotations.json", "images/000001.png", "images/000002.png"]
    assert one == again
    assert all(one[name] != other[name] for name in one)


def test_files_are_what_the_scenes_are(tmp_path: Path) -> None:
    draw(tmp_path, 6, 5, 64)
    document = json.loads((tmp_path / "annotations.json").read_text())
    assert set(document) == {"images", "annotations", "categories"}
    assert document["categories"] == [
        {"id": 1, "name": "circle"}, {"id": 2, "name": "square"},
        {"id": 3, "name": "triangle"}, {"id": 4, "name": "star"},
    ]  # fmt: skip
    assert document["images"] == [
        {"id": number, "file_name": f"{number:06d}.png", "width": 64, "height": 64}
        for number in range(1, 7)
    ]
    expected = []
    for number in range(1, 7):
        scene = draw_scene(5, number, 64)
        assert (cv2.imread(str(tmp_path / f"images/{number:06d}.png")) == scene.image).all()
        expected += [
            (number, int(label) + 1, mask)
            for label, mask in zip(scene.labels, scene.masks, strict=True)
        ]
    assert [one["id"] for one in document["annotations"]] == list(range(1, len(expected) + 1))
    for found, (image, category, mask) in zip(document["annotations"], expected, strict=True):
        assert (found["image_id"], found["category_id"], found["iscrowd"]) == (image, category, 0)
        assert found["segmentation"]["size"] == [64, 64]
        assert (coco_mask.decode(found["segmentation"]) == mask).all()
        assert found["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        left, top = columns.min(), rows.min()
        width, height = columns.max() + 1 - left, rows.max() + 1 - top
        assert found["bbox"] == [left, top, width, height]


@pytest.mark.parametrize("size", SIZES)
def test_a_scene_of_every_size_has_one_to_six_objects_each_to_be_seen(size: int) -> None:
    counts, labels = set(), set()
    for scene in scenes(size):
        assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
        assert scene.masks.shape == (len(scene.labels), size, size)
        assert scene.masks.dtype == np.bool_ and scene.labels.dtype == np.int64
        assert scene.masks.any(axis=(1, 2)).all() and scene.masks.sum(axis=0).max() == 1
        counts.add(len(scene.labels))
        labels.update(scene.labels.tolist())
    assert {1, 2, 3, 4} <= counts and max(counts) <= MOST_OBJECTS
    assert labels == set(range(len(CLASSES)))


def test_as_many_objects_as_allowed_are_drawn_at_times() -> None:
    assert max(len(scene.labels) for scene in scenes(160, 120)) == MOST_OBJECTS


def alone(size: int, count: int) -> Iterator[tuple[str, Mask]]:
    """Objects that nothing covers and that lie within the image: those in front of all others."""
    for scene in scenes(size, count):
        mask = scene.masks[-1]
        if not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()):
            yield CLASSES[int(scene.labels[-1])], mask


def fill_of(mask: Mask) -> tuple[float, float, float]:
    """Radius of the circle around it, how much of the circle it fills, and of its convex hull."""
    (outline,), _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    _, radius = cv2.minEnclosingCircle(outline)
    hull = cv2.contourArea(cv2.convexHull(outline))
    area = cv2.contourArea(outline)
    return radius + 0.5, area / (math.pi * radius**2), area / hull


def test_each_class_has_its_form() -> None:
    star = 5 * 0.45 * math.sin(math.pi / 5)
    expected = {
        "circle": (1.0, 1.0),
        "square": (2 / math.pi, 1.0),
        "triangle": (3 * math.sqrt(3) / 4 / math.pi, 1.0),
        "star": (star / math.pi, star / (2.5 * math.sin(2 * math.pi / 5))),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CLASSES}
    for name, mask in alone(240, 120):
        radius, of_circle, of_hull = fill_of(mask)
        if radius > 25:  # of smaller ones the pixels at the edge count for too much
            found[name].append((of_circle, of_hull))
    for name, fills in found.items():
        assert len(fills) >= 4, name
        assert np.abs(np.array(fills) - expected[name]).max() < 0.08, name


@pytest.mark.parametrize("size", [96, 240])
def test_objects_are_of_all_sizes_between_the_bounds_and_lie_anywhere(size: int) -> None:
    radii, centres = [], []
    for name, mask in alone(size, 120):
        if name in ("circle", "square"):
            radii.append(fill_of(mask)[0])
            centres.append(np.argwhere(mask).mean(axis=0) / size)
    smallest, largest = max(4.0, WIDTHS[0] * size / 2), WIDTHS[1] * size / 2
    assert smallest - 1.5 <= min(radii) < 1.35 * smallest
    assert 0.75 * largest < max(radii) <= largest + 1.5
    # Half of them are smaller than the geometric mean, not than the arithmetic one.
    assert np.median(radii) < (smallest + largest) / 2
    spread = np.array(centres)
    assert (spread.min(axis=0) < 0.25).all() and (spread.max(axis=0) > 0.75).all()
    assert np.abs(spread.mean(axis=0) - 0.5).max() < 0.1


def test_objects_are_turned_at_random() -> None:
    ratios = []
    for name, mask in alone(160, 120):
        if name == "square":
            rows, columns = np.nonzero(mask)
            ratios.append(mask.sum() / (np.ptp(rows) + 1) / (np.ptp(columns) + 1))
    # 1 for a square along the axes, 1/2 for one on its corner.
    assert min(ratios) < 0.6 and max(ratios) > 0.85


DRAWN = {
    1: ([2, 0, 3], [111, 151, 140], [106.99, 179.64, 60.65], 65.17, 5.68),
    2: ([3, 1, 1, 1], [257, 1506, 1320, 100], [125.0, 160.6, 80.47], 54.17, 7.57),
    3: ([3], [99], [173.09, 126.56, 198.5], 52.05, 5.18),
    4: ([1, 0, 2, 0, 2], [241, 187, 95, 574, 389], [128.25, 98.72, 71.94], 50.86, 7.65),
}
"""Of the demo's images: labels, areas in pixels, the mean of each channel, the deviation, the
mean step from one pixel to the next."""


@pytest.mark.parametrize("number", DRAWN)
def test_the_demos_images_are_what_its_figures_rest_on(number: int) -> None:
    """A change of what is drawn, or of the order in which chance is asked, shows here."""
    labels, areas, means, deviation, step = DRAWN[number]
    scene = draw_scene(7, number, 160)
    assert scene.labels.tolist() == labels
    assert scene.masks.sum(axis=(1, 2)) == pytest.approx(areas, abs=2)
    assert scene.image.mean(axis=(0, 1)) == pytest.approx(means, abs=0.1)
    assert scene.image.std() == pytest.approx(deviation, abs=0.1)
    steps = np.abs(np.diff(scene.image.astype(np.float64), axis=1))
    assert steps.mean() == pytest.approx(step, abs=0.1)


def test_what_leans_out_of_the_image_is_cut_off_at_its_edge() -> None:
    cut = [
        mask for scene in scenes(96) for mask in scene.masks
        if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    ]  # fmt: skip
    assert len(cut) > 5


def high(image: npt.NDArray[Any]) -> float:
    """How strong the noise of single pixels is: the standard deviation, of neighbours apart."""
    differences = np.diff(image.astype(np.float64), axis=1)
    return float(np.median(np.abs(differences)) / 0.6745 / math.sqrt(2))


def test_every_image_has_colours_of_its_own_and_noise_but_not_too_much() -> None:
    found = list(scenes(160))
    means = np.array([scene.image.mean(axis=(0, 1)) for scene in found])
    assert means.std(axis=0).min() > 15 and means.min() > 45 and means.max() < 215
    noise = [high(scene.image) for scene in found]
    assert 2.5 < min(noise) < 6 and 7 < max(noise) < 14
    for scene in found:
        behind = ~scene.masks.any(axis=0)
        assert scene.image[behind].std(axis=0).max() > 10  # cloudy, not of one colour
        for mask in scene.masks:
            if mask.sum() > 200:
                assert scene.image[mask].std(axis=0).max() < 70


def test_an_object_stands_out_from_what_it_covers() -> None:
    """By 90 of 255 in the sum of squares over the colours, noise and clouds aside."""
    near = 0
    for scene in scenes(160):
        mask = scene.masks[-1]
        ring = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
        ring &= ~cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        inside, outside = scene.image[mask].mean(axis=0), scene.image[ring].mean(axis=0)
        near += bool(np.linalg.norm(inside - outside) < 45)
    assert near <= 3


def test_pixels_on_an_edge_are_mixed_of_both_sides() -> None:
    """So the step from inside to outside takes more than one pixel."""
    mixed = 0
    for scene in scenes(160)[:20]:
        mask = scene.masks[-1].astype(np.uint8)
        core = cv2.erode(mask, np.ones((7, 7), np.uint8)).astype(bool)
        edge = mask.astype(bool) & ~cv2.erode(mask, np.ones((3, 3), np.uint8)).astype(bool)
        far = cv2.dilate(mask, np.ones((7, 7), np.uint8)).astype(bool)
        far &= ~cv2.dilate(mask, np.ones((5, 5), np.uint8)).astype(bool)
        if not core.any() or not far.any():
            continue
        inside, outside = scene.image[core].mean(axis=0), scene.image[far].mean(axis=0)
        axis = (outside - inside) / np.sum((outside - inside) ** 2)
        part = float(np.mean((scene.image[edge] - inside) @ axis))
        mixed += 0.05 < part < 0.5
    assert mixed >= 14


def test_a_folder_that_takes_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "images" / "000001.png").mkdir(parents=True)
    with pytest.raises(OSError, match=r"000001\.png: the image could not be written"):
        draw(tmp_path, 1, 5, 32)


def test_the_command_draws_what_is_asked_for_and_says_where(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "farm.datasets.synthetic", str(tmp_path / "few")]
    words = ["--count", "2", "--seed", "5", "--size", "33"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    assert done.stdout == f"2 images: {tmp_path / 'few' / 'annotations.json'}\n"
    draw(tmp_path / "same", 2, 5, 33)
    assert files_of(tmp_path / "few") == files_of(tmp_path / "same")


def test_without_numbers_the_command_draws_64_images_of_160_pixels_from_seed_7(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "farm.datasets.synthetic", str(tmp_path)]
    subprocess.run(command, capture_output=True, check=True)
    document = json.loads((tmp_path / "annotations.json").read_text())
    assert len(document["images"]) == 64
    first = cv2.imread(str(tmp_path / "images" / "000001.png"))
    assert (first == draw_scene(7, 1, 160).image).all()
