"""Draw a data set of coloured shapes with boxes and masks, in COCO's format, from a seed."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

CLASSES = ("circle", "square", "triangle", "star")
MOST_OBJECTS = 6
# Widths of the smallest and the largest object, as parts of the image's side.
WIDTHS = (0.075, 0.5)
# An object that would hide more than half of another one is not drawn.
LEAST_VISIBLE = 0.5
# Edges are drawn on a canvas this many times larger, so that pixels on an edge are mixed.
OVERSAMPLE = 4

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """One drawn image and what is to be seen on it, the hindmost object first.

    image: uint8 [size, size, 3], BGR; labels: int64 [N], indices into CLASSES;
    masks: bool [N, size, size], the visible pixels of each object; N is at least 1.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    masks: Masks


def draw(folder: Path, count: int, seed: int, size: int) -> None:
    """Write images/000001.png ... and annotations.json, COCO's instance format, into `folder`.

    Images are `size` x `size` pixels. Image n depends on (seed, n, size) alone: a longer data
    set starts with the images of a shorter one, and the same arguments give the same bytes.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        scene = draw_scene(seed, number, size)
        name = f"{number:06d}.png"
        _write_png(folder / "images" / name, scene.image)
        images.append({"id": number, "file_name": name, "width": size, "height": size})
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            annotations.append(_annotation(len(annotations) + 1, number, int(label), mask))
    categories = [{"id": label, "name": name} for label, name in enumerate(CLASSES, start=1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document), encoding="utf-8")


def draw_scene(seed: int, number: int, size: int) -> Scene:
    """Draw image `number` of the data set `seed`, `size` x `size` pixels."""
    rng = np.random.default_rng((seed, number))
    image = _background(rng, size)
    labels: list[int] = []
    masks = np.zeros((0, size, size), np.bool_)
    areas = np.zeros(0)
    for _ in range(rng.integers(1, MOST_OBJECTS, endpoint=True)):
        label = int(rng.integers(len(CLASSES)))
        cover = _cover(_outline(rng, label, size), size)
        mask = cover >= 0.5
        left = masks & ~mask
        if np.any(left.sum(axis=(1, 2)) < LEAST_VISIBLE * areas):
            continue
        paint = _paint(rng, image, mask)
        image += cover[..., None] * (paint - image)
        labels.append(label)
        masks, areas = np.concatenate([left, mask[None]]), np.append(areas, mask.sum())
    image += rng.normal(0, rng.uniform(3, 10), image.shape).astype(np.float32)
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Scene(pixels, np.array(labels, np.int64), masks)


def _background(rng: np.random.Generator, size: int) -> Floats:
    """Cloudy colours with a few thin lines across them, float32 [size, size, 3]."""
    image = _clouds(rng, size, cells=4, strength=45) + _clouds(rng, size, cells=16, strength=20)
    image += rng.uniform(60, 195, 3).astype(np.float32)
    for _ in range(rng.integers(0, 5)):
        start, end = rng.integers(0, size, (2, 2)).tolist()
        colour = rng.uniform(0, 255, 3).tolist()
        cv2.line(image, start, end, colour, int(rng.integers(1, 3)), cv2.LINE_8)
    return image


def _clouds(rng: np.random.Generator, size: int, cells: int, strength: float) -> Floats:
    coarse = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _outline(rng: np.random.Generator, label: int, size: int) -> Floats:
    """The corners of a new object of class `label`, turned at random, float32 [K, 2], x y."""
    low, high = np.log(WIDTHS[0] * size), np.log(WIDTHS[1] * size)
    radius = max(4.0, float(np.exp(rng.uniform(low, high))) / 2)
    centre = rng.uniform(0.8 * radius, size - 0.8 * radius, 2)
    corners, inner = {"circle": (48, 1.0), "square": (4, 1.0), "triangle": (3, 1.0),
                      "star": (10, 0.45)}[CLASSES[label]]  # fmt: skip
    angles = 2 * np.pi * np.arange(corners) / corners + rng.uniform(0, 2 * np.pi)
    reach = radius * np.where(np.arange(corners) % 2, inner, 1.0)
    points = centre + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outline: Floats = points.astype(np.float32)
    return outline


def _cover(outline: Floats, size: int) -> Floats:
    """How much of each pixel lies inside the outline, 0 to 1, float32 [size, size]."""
    canvas = np.zeros((size * OVERSAMPLE, size * OVERSAMPLE), np.float32)
    cv2.fillPoly(canvas, [np.rint(outline * OVERSAMPLE).astype(np.int32)], 1.0)
    cover: Floats = canvas.reshape(size, OVERSAMPLE, size, OVERSAMPLE).mean(axis=(1, 3))
    return cover


def _paint(rng: np.random.Generator, image: Floats, mask: Masks) -> Floats:
    """A slightly uneven colour that differs from what it will cover, float32 [size, size, 3]."""
    under = image[mask].mean(axis=0)
    colours = rng.uniform(10, 245, (8, 3))
    distances = np.linalg.norm(colours - under, axis=1)
    colour: Floats = colours[np.argmax(distances > 90)].astype(np.float32)
    return colour + _clouds(rng, image.shape[0], cells=8, strength=14)


def _annotation(number: int, image: int, label: int, mask: Masks) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    counts = rle["counts"].decode("ascii")
    return {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "area": int(coco_mask.area(rle)),
        "segmentation": {"size": list(mask.shape), "counts": counts},
        "iscrowd": 0,
    }


def _write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"{path}: the image could not be written; is the folder writable?")


def main() -> None:
    """`python -m farm.datasets.synthetic FOLDER`: the data set as files, for other tools."""
    parser = argparse.ArgumentParser(prog="python -m farm.datasets.synthetic", description=__doc__)
    parser.add_argument("folder", type=Path)
    for name, default in (("count", 64), ("seed", 7), ("size", 160)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    options = parser.parse_args()
    draw(options.folder, options.count, options.seed, options.size)
    print(f"{options.count} images: {options.folder / 'annotations.json'}")


if __name__ == "__main__":
    main()
