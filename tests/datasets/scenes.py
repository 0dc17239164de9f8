"""Images, objects and detections drawn by seed: what evaluators of COCO could differ by."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from farm.datasets import coco
from farm.datasets.matches import Matches
from farm.detections import Detections, ImageMeta
from farm.store.figures import AP_SUFFIXES

Document = dict[str, Any]

CATEGORIES = {"cat": 7, "dog": 3, "cow": 90, "hen": 12, "yak": 55}
"""Of which the last two have no objects."""
SCENES = 40


class Scene:
    """Images, objects and detections drawn by seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.classes = [str(name) for name in self.random.permutation(list(CATEGORIES))]
        ids = self.random.permutation(40)[: self.random.integers(1, 6)] * 10 ** (seed % 3 * 4)
        self.metas, self.found = [], []
        self.document: Document = {"images": [], "annotations": [], "categories": []}
        self.document["categories"] = [{"id": v, "name": k} for k, v in CATEGORIES.items()]
        for image in (ids - 9 * (seed % 2)).tolist():
            height, width = self.random.integers(20, 260, 2).tolist()
            named = {"id": image, "height": height, "width": width, "file_name": f"{image}.png"}
            self.document["images"].append(named)
            self.metas.append(ImageMeta(image, f"{image}.png", *(height, width) * 3, 1.0, 1.0))
            objects = list(self._objects(image, height, width))
            self.document["annotations"] += objects
            self.found.append(self._detections(objects, height, width))
        for number, one in enumerate(self.document["annotations"], start=1):
            one["id"] = number

    def _objects(self, image: int, height: int, width: int) -> Iterator[Document]:
        random = self.random
        for _ in range(random.choice([0, 1, 3, 9])):
            box = [*random.uniform(-4, [width, height]), *random.uniform(1, [width, height])]
            if random.random() < 0.4:
                box = [float(round(value)) for value in box]
            area = box[2] * box[3]
            if random.random() < 0.5:  # at the edges of small, medium and large
                area = float(random.choice([1024, 9216, 1024 - 1e-9, 9216 + 1e-9, 0, 1e10]))
            yield {
                "image_id": image,
                "category_id": CATEGORIES[str(random.choice(["cat", "dog", "cow"]))],
                "bbox": [float(value) for value in box],
                "area": area,
                "iscrowd": int(random.random() < 0.2),
                "segmentation": self._segmentation(box, height, width),
            }

    def _segmentation(self, box: list[float], height: int, width: int) -> Any:
        kind = self.random.integers(4)
        if kind < 2:
            outlines = [self._outline(box, max(height, width)) for _ in range(kind + 1)]
            return [[float(value) for value in one] for one in outlines]
        pixels = self._pixels(box, height, width)
        if kind == 2:
            return text(pixels)
        line = np.concatenate([[0], pixels.ravel(order="F"), [0]])
        counts = np.diff(np.flatnonzero(np.diff(line)), prepend=0, append=height * width)
        return {"size": [height, width], "counts": counts.tolist()}

    def _outline(self, box: list[float], side: int) -> Any:
        corners = int(self.random.integers(3, 9))
        angle = np.sort(self.random.random(corners)) * 2 * np.pi
        points = np.stack([np.cos(angle), np.sin(angle)], 1) * self.random.uniform(0.3, 1)
        places = np.array(box[:2]) + np.array(box[2:]) * (points + 1) / 2
        return (np.round(places * 2) / 2 if corners % 2 else places).clip(-side, 2 * side).ravel()

    def _pixels(self, box: list[float], height: int, width: int) -> Any:
        pixels = np.zeros((height, width), np.uint8, order="F")
        x, y, w, h = (max(0, int(value)) for value in box)
        pixels[y : y + h, x : x + w] = self.random.random() < 0.95
        holes = self.random.random(pixels.shape) < self.random.choice([0, 0.1])
        return np.asfortranarray(pixels & ~holes)

    def _detections(self, objects: list[Document], height: int, width: int) -> Detections:
        random, boxes, rles, labels, scores = self.random, [], [], [], []
        names = {number: name for name, number in CATEGORIES.items()}
        for _ in range(random.choice([0, 3, 30, 260])):
            box = [*random.uniform(0, [width, height]), *random.uniform(0, [width, height])]
            name = str(random.choice(self.classes))
            if objects and random.random() < 0.8:
                near = objects[random.integers(len(objects))]
                name = names[near["category_id"]]
                box = np.array(near["bbox"]) * random.normal(1, random.choice([0, 0.05, 0.2]), 4)
                box[2] *= random.choice([1, 1, 0.5])  # an IoU of exactly 0.5
            boxes.append([box[0], box[1], box[0] + box[2], box[1] + box[3]])
            rles.append(text(self._pixels([float(value) for value in box], height, width)))
            labels.append(self.classes.index(name))
            scores.append(random.choice([0.2, 0.5, 0.5, random.random()]))
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(labels, np.int64),
            rles=tuple(rles),
            mask_scores=random.random(len(rles), np.float32) if random.random() < 0.5 else None,
        )

    def figures(self, folder: Path, masks: bool) -> dict[str, Any]:
        """What the farm computes."""
        path = folder / "annotations.json"
        path.write_text(json.dumps(self.document))
        return coco.average_precision(path, self.found, self.metas, self.classes, masks)

    def expected(self, folder: Path, masks: bool) -> dict[str, Any]:
        """pycocotools' own figures, as its documentation has it."""
        path = folder / "annotations.json"
        path.write_text(json.dumps(self.document))
        figures: dict[str, Any] = {}
        for kind in ("box", "mask")[: 1 + masks]:
            with contextlib.redirect_stdout(io.StringIO()):
                truth = COCO(str(path))
                rows = self._results(kind)
                results = truth.loadRes(rows) if rows else COCO()
                evaluation = COCOeval(truth, results, "bbox" if kind == "box" else "segm")
                evaluation.params.catIds = [CATEGORIES[name] for name in self.classes]
                evaluation.evaluate()
                evaluation.accumulate()
                evaluation.summarize()
            for suffix, value in zip(AP_SUFFIXES, evaluation.stats, strict=False):
                figures[f"{kind}_ap{suffix}"] = float(value) if value > -1 else None
            by_class = evaluation.eval["precision"][:, :, :, 0, -1]
            figures[f"{kind}_ap_by_class"] = {
                name: float(values[values > -1].mean()) if (values > -1).any() else None
                for name in self.classes
                for values in [by_class[:, :, sorted(CATEGORIES.values()).index(CATEGORIES[name])]]
            }
        return figures

    def _results(self, kind: str) -> list[Document]:
        rows = []
        for one, meta in zip(self.found, self.metas, strict=True):
            for i, (x, y, right, bottom) in enumerate(one.boxes.tolist()):
                row: Document = {"image_id": meta.image_id, "score": float(one.scores[i])}
                row["category_id"] = CATEGORIES[self.classes[one.labels[i]]]
                if kind == "box":
                    row["bbox"] = [x, y, right - x, bottom - y]
                else:
                    assert one.rles is not None
                    row["segmentation"] = one.rles[i]
                    if one.mask_scores is not None:
                        row["score"] = float(one.mask_scores[i])
                rows.append(row)
        return rows


def text(pixels: Any) -> Document:
    encoded = coco_mask.encode(pixels)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def with_own_scores(scene: Scene) -> Scene:
    """No two scores are equal: which of two equal ones of an image ranks first is not defined."""
    for i, one in enumerate(scene.found):
        scores = (scene.random.permutation(len(one)) + (i + 1) / 10) / 1000
        own = None if one.mask_scores is None else scores.astype(np.float32)[::-1].copy()
        scene.found[i] = replace(one, scores=scores.astype(np.float32), mask_scores=own)
    return scene


def noisy(scene: Scene) -> Scene:
    """Another detector: its scores differ, and it misses some boxes."""
    other = copy.copy(scene)
    other.found = [
        replace(one, scores=scene.random.permutation(one.scores) * 0.9) for one in scene.found
    ]
    return other


def kept(scene: Scene, folder: Path) -> dict[str, Matches]:
    path = folder / "annotations.json"
    path.write_text(json.dumps(scene.document))
    return coco.Evaluation(path, scene.found, scene.metas, scene.classes, True).matches()
