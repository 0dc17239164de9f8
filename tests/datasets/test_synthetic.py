"""The synthetic data set: same seed same bytes, and annotations that fit what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from farm.datasets import synthetic
from farm.datasets.synthetic import CLASSES, LEAST_VISIBLE, MOST_OBJECTS, draw, draw_scene

COUNT, SEED, SIZE = 24, 7, 96


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    draw(folder, COUNT, SEED, SIZE)
    return folder


@pytest.fixture(scope="module")
def coco(drawn: Path) -> Any:
    return COCO(str(drawn / "annotations.json"))


def test_the_same_arguments_give_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    draw(tmp_path, COUNT, SEED, SIZE)
    assert bytes_of(tmp_path) == bytes_of(drawn)


def test_a_longer_data_set_starts_with_the_shorter_one(drawn: Path, tmp_path: Path) -> None:
    draw(tmp_path, 3, SEED, SIZE)
    pngs = {name: data for name, data in bytes_of(tmp_path).items() if name.endswith(".png")}
    assert len(pngs) == 3
    assert pngs.items() <= bytes_of(drawn).items()


def test_every_image_differs_and_another_seed_shares_none(drawn: Path, tmp_path: Path) -> None:
    draw(tmp_path, 5, SEED + 1, SIZE)
    first = {path.read_bytes() for path in (drawn / "images").iterdir()}
    other = {path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert len(first) == COUNT
    assert not first & other


def test_images_have_the_size_that_the_annotations_state(drawn: Path, coco: Any) -> None:
    names = [image["file_name"] for image in coco.dataset["images"]]
    assert names == [f"{number:06d}.png" for number in range(1, COUNT + 1)]
    for image in coco.dataset["images"]:
        pixels = cv2.imread(str(drawn / "images" / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3) == (SIZE, SIZE, 3)


def test_boxes_enclose_their_masks_tightly(coco: Any) -> None:
    for annotation in coco.dataset["annotations"]:
        ys, xs = np.nonzero(coco.annToMask(annotation))
        x, y, w, h = annotation["bbox"]
        assert (x, y, x + w, y + h) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert annotation["area"] == len(xs)
        assert not annotation["iscrowd"]


def test_every_class_is_drawn_and_every_image_has_one_to_six_objects(coco: Any) -> None:
    assert {c["id"]: c["name"] for c in coco.dataset["categories"]} == dict(enumerate(CLASSES, 1))
    seen = {annotation["category_id"] for annotation in coco.dataset["annotations"]}
    assert seen == set(range(1, len(CLASSES) + 1))
    counts = {len(coco.getAnnIds([image])) for image in coco.getImgIds()}
    assert counts <= set(range(1, MOST_OBJECTS + 1))
    assert len(counts) > 3


def test_a_pixel_belongs_to_one_object_at_most() -> None:
    for number in range(1, COUNT + 1):
        assert draw_scene(SEED, number, SIZE).masks.sum(axis=0).max() == 1


def test_objects_overlap_but_none_is_mostly_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[Any] = []

    def cover(*args: Any) -> Any:
        drawn = real_cover(*args)
        whole.append(drawn >= 0.5)
        return drawn

    real_cover = synthetic._cover
    monkeypatch.setattr(synthetic, "_cover", cover)
    visible = []
    for number in range(1, COUNT + 1):
        whole.clear()
        for mask in draw_scene(SEED, number, SIZE).masks:
            visible.append(
                max(mask.sum() / full.sum() for full in whole if not (mask & ~full).any())
            )
    assert LEAST_VISIBLE <= min(visible) < 1


def test_colours_inside_a_mask_differ_from_those_around_it() -> None:
    """A mask that were shifted or swapped with another one would not stand out so."""
    kernel = np.ones((5, 5), np.uint8)
    distances = []
    for number in range(1, COUNT + 1):
        scene = draw_scene(SEED, number, SIZE)
        for mask in scene.masks:
            around = cv2.dilate(mask.astype(np.uint8), kernel).astype(bool) & ~mask
            inside = scene.image[mask].mean(axis=0)
            distances.append(np.linalg.norm(inside - scene.image[around].mean(axis=0)))
    assert np.median(distances) > 60
