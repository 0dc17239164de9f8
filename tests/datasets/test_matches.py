"""AP over any images, from the matches that are kept, is pycocotools' over those images."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import Scene, kept, with_own_scores

from farm.datasets import coco, coco_evaluators, matches
from farm.datasets.coco_evaluators import by_pycocotools
from farm.datasets.hotcoco_evaluation import by_hotcoco
from farm.datasets.matches import average_precision

KINDS = ("box", "mask")


def drawn(scene: Scene, times: Any) -> Scene:
    """The scene with each image so many times, each copy with an id of its own."""
    found = copy.copy(scene)
    found.metas, found.found = [], []
    found.document = {**scene.document, "images": [], "annotations": []}
    # An image's number in the matches is its place among the ids.
    order = np.argsort([meta.image_id for meta in scene.metas])
    copies = [i for i, count in zip(order, times, strict=True) for _ in range(count)]
    for number, i in enumerate(copies, start=1):
        image = scene.document["images"][i]
        found.document["images"].append({**image, "id": number})
        found.metas.append(replace(scene.metas[i], image_id=number))
        found.found.append(scene.found[i])
        found.document["annotations"] += [
            {**one, "image_id": number}
            for one in scene.document["annotations"]
            if one["image_id"] == image["id"]
        ]
    for number, one in enumerate(found.document["annotations"], start=1):
        one["id"] = number
    return found


@pytest.mark.parametrize("library", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("seed", range(12))
def test_with_every_image_once_it_is_the_ap_of_the_record(
    seed: int, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {"hotcoco": by_hotcoco, "pycocotools": by_pycocotools}[library]
    monkeypatch.setattr(coco_evaluators, "evaluator", lambda rows: used)
    scene = Scene(seed)
    found, figures = kept(scene, tmp_path), scene.figures(tmp_path, masks=True)
    for kind in KINDS:
        (own,) = average_precision(found[kind], np.ones((len(scene.metas), 1)))
        expected = figures[f"{kind}_ap"]
        if expected is None:
            assert np.isnan(own)
        else:
            assert own == pytest.approx(expected, rel=0, abs=1e-14)


@pytest.mark.parametrize("seed", range(8))
def test_over_a_sample_it_is_that_of_pycocotools_over_the_copies(seed: int, tmp_path: Path) -> None:
    scene = with_own_scores(Scene(seed))
    times = np.random.default_rng(seed).integers(0, 4, (len(scene.metas), 3))
    found = kept(scene, tmp_path)
    for i, column in enumerate(times.T):
        if not column.any():
            continue
        expected = drawn(scene, column).expected(tmp_path, masks=True)
        for kind in KINDS:
            own = average_precision(found[kind], times.astype(float))[i]
            other = found[kind].drawn(np.arange(len(column)).repeat(column))
            once = average_precision(other, np.ones((other.images, 1)))[0]
            value = expected[f"{kind}_ap"]
            for one in (own, once):
                assert np.isnan(one) if value is None else one == pytest.approx(value, abs=1e-13)


def test_recalls_that_pycocotools_rounds_up_are_not_reached_by_their_percentage(
    tmp_path: Path,
) -> None:
    """35 of 100 objects found is a recall below pycocotools' 0.35."""
    scene = Scene(0)
    (meta,) = scene.metas[:1]
    for count in (35, 41, 50, 57, 83):
        corner = np.arange(100) * 30.0
        boxes = np.stack([corner, corner, corner + 10, corner + 10], 1).astype(np.float32)
        scene.metas = [meta]
        scene.found = [
            replace(
                scene.found[0], boxes=boxes[:count], labels=np.zeros(count, np.int64), rles=None,
                scores=np.linspace(0.9, 0.1, count, dtype=np.float32), mask_scores=None,
            )
        ]  # fmt: skip
        category = next(
            x["id"] for x in scene.document["categories"] if x["name"] == scene.classes[0]
        )
        scene.document["annotations"] = [
            {"id": i + 1, "image_id": meta.image_id, "category_id": category, "iscrowd": 0,
             "bbox": [x, x, 10.0, 10.0], "area": 100.0, "segmentation": [[0, 0, 9, 0, 9, 9]]}
            for i, x in enumerate(corner.tolist())
        ]  # fmt: skip
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(scene.document))
        evaluation = coco.Evaluation(path, scene.found, scene.metas, scene.classes, False)
        (own,) = average_precision(evaluation.matches()["box"], np.ones((1, 1)))
        assert own == pytest.approx(evaluation.figures()["box_ap"], abs=1e-14), count


def test_files_have_all_of_it(tmp_path: Path) -> None:
    found = kept(Scene(3), tmp_path)
    matches.save(tmp_path / "matches.npz", found)
    read = matches.load(tmp_path / "matches.npz")
    assert read.keys() == found.keys() == set(KINDS)
    for kind in KINDS:
        assert read[kind].images == found[kind].images
        for name in ("image", "category", "score", "true", "false", "object_image"):
            one, other = getattr(read[kind], name), getattr(found[kind], name)
            assert one.dtype == other.dtype and np.array_equal(one, other)


def test_what_no_ap_depends_on_is_not_kept(tmp_path: Path) -> None:
    scenes = [Scene(seed) for seed in range(12)]
    rows = [(one, sum(map(len, one.found))) for one in scenes]
    parts = [(kept(one, tmp_path)["box"], count) for one, count in rows]
    assert sum(len(one.image) for one, _ in parts) < 0.7 * sum(count for _, count in parts)
    for one, _ in parts:
        assert ((one.true | one.false) > 0).all() and ((one.true & one.false) == 0).all()
        for category in np.unique(one.category):
            assert one.of(category).true[-1], "the last of a class is a true positive"
