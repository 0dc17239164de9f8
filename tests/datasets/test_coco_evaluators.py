"""AP is pycocotools' to the last bit, whichever library computes it."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import SCENES, Scene

from farm.datasets import coco_evaluators
from farm.datasets.coco_evaluators import Rows, Truth, by_pycocotools, evaluator
from farm.datasets.hotcoco_evaluation import by_hotcoco
from farm.plan.content import packages

# Equality -------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["hotcoco", "pycocotools"])
@pytest.mark.parametrize("seed", range(SCENES))
def test_every_figure_is_that_of_pycocotools_to_the_last_bit(
    seed: int, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = {"hotcoco": by_hotcoco, "pycocotools": by_pycocotools}[library]
    monkeypatch.setattr(coco_evaluators, "evaluator", lambda rows: used)
    scene = Scene(seed)
    assert scene.figures(tmp_path, masks=True) == scene.expected(tmp_path, masks=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SCENES, 12 * SCENES, SCENES))
def test_so_it_is_on_many_more_scenes(seed: int, tmp_path: Path) -> None:
    for one in range(seed, seed + SCENES):
        scene = Scene(one)
        assert scene.figures(tmp_path, masks=True) == scene.expected(tmp_path, masks=True), one


def test_the_scenes_have_what_evaluators_could_differ_by(tmp_path: Path) -> None:
    scenes = [Scene(seed) for seed in range(SCENES)]
    objects = [one for scene in scenes for one in scene.document["annotations"]]
    kinds = Counter(type(one["segmentation"]).__name__ for one in objects)
    texts = [one["segmentation"]["counts"] for one in objects if type(one["segmentation"]) is dict]
    assert kinds["list"] > 20 and {type(one) for one in texts} == {str, list}
    assert {one["iscrowd"] for one in objects} == {0, 1}
    assert {1024, 9216} <= {one["area"] for one in objects}
    found = [(one, scene.document, meta) for scene in scenes
             for one, meta in zip(scene.found, scene.metas, strict=True)]  # fmt: skip
    assert any(np.bincount(one.labels, minlength=1).max() > 100 for one, *_ in found)
    assert any(len(set(one.scores.tolist())) < len(one) - 20 for one, *_ in found)
    own = [{x["image_id"] for x in document["annotations"]} for _, document, _ in found]
    pairs = list(zip(found, own, strict=True))
    assert any(len(one) and meta.image_id not in ids for (one, _, meta), ids in pairs)
    assert any(not len(one) and meta.image_id in ids for (one, _, meta), ids in pairs)
    figures = [scene.figures(tmp_path, masks=True) for scene in scenes]
    for name in ("box_ap", "mask_ap", "box_ap_s", "mask_ap_m", "box_ap_l"):
        between = [one[name] for one in figures if one[name] and 0.02 < one[name] < 0.98]
        assert len(set(between)) > 5, name


# Which of them --------------------------------------------------------------------------------


def rows(**changes: Any) -> Rows:
    one = np.ones(1, np.int64)
    return replace(Rows(one, one, np.ones(1), np.float64([[1, 1, 9, 9]])), **changes)


def truth() -> Truth:
    box = {"bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, **box}]
    document = {"images": [{"id": 1}], "annotations": annotations, "categories": [{"id": 1}]}
    return Truth(document, [1], [1])


def test_hotcoco_is_used_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert evaluator(rows()) is by_hotcoco
    for one in (by_hotcoco, by_pycocotools):
        assert one(truth(), rows()).max() == pytest.approx(1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("changes", [{"scores": np.float64([np.nan])},
                                     {"boxes": np.float64([[1, 1, np.nan, 9]])}])  # fmt: skip
def test_rows_that_are_no_numbers_are_counted_as_pycocotools_does(changes: Any) -> None:
    assert evaluator(rows(**changes)) is by_pycocotools


def test_boxes_need_no_sizes_of_images_and_no_segmentations() -> None:
    one = truth()
    odd = {"images": [{"id": 1, "height": "x"}]}
    odd["annotations"] = [{**one.document["annotations"][0], "segmentation": [[1, 2]]}]
    found = by_hotcoco(replace(one, document={**one.document, **odd}), rows())
    np.testing.assert_array_equal(found, by_pycocotools(one, rows()))


def test_without_hotcoco_pycocotools_computes_and_its_version_is_in_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = importlib.metadata.distribution
    here = packages.toolchain(["hotcoco"])
    assert here == (("hotcoco", known("hotcoco").version),)

    def without(name: str) -> importlib.metadata.Distribution:
        if name == "hotcoco":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "distribution", without)
    caches = (coco_evaluators._hotcoco_is_installed, packages.version, packages.exact_version)
    try:
        for one in caches:
            one.cache_clear()
        assert evaluator(rows()) is by_pycocotools
        expected = f"pycocotools {known('pycocotools').version}"
        assert packages.toolchain(["hotcoco"]) == (("hotcoco", expected),)
    finally:
        for one in caches:
            one.cache_clear()
