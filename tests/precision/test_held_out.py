"""What int8's `auto` judges by: images that took no part in the calibration, and an interval."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT

from farm import specs
from farm.datasets import coco
from farm.detections import Detections
from farm.detections.convert import network_meta
from farm.errors import StepFailed
from farm.stages.convert.held_out import HeldOut, split

CLASSES = ("circle", "square", "star")
METAS = [
    replace(network_meta(f"{i:03}.png", 100, 100), image_id=40 - i)  # not in the order of ids
    for i in range(40)
]
HOW = specs.Auto(1.0, 0.3, 4, annotated=False, classes=CLASSES, clip=False)


def found(seed: int = 0, moved: float = 0.0, images: int = 40) -> list[Detections]:
    """Six boxes an image, their sides 10 to 40 pixels, moved by up to so many."""
    random, shifts = np.random.default_rng(seed), np.random.default_rng(1)
    result = []
    for _ in range(images):
        low, sides = random.uniform(0, 60, (6, 2)), random.uniform(10, 40, (6, 2))
        boxes = np.hstack([low, low + sides]) + shifts.uniform(0, moved, (6, 1))
        scores = random.uniform(0.2, 1, 6).astype(np.float32)
        result.append(Detections(boxes.astype(np.float32), scores, random.integers(0, 3, 6)))
    return result


def judge(folder: Path, how: specs.Auto = HOW) -> HeldOut:
    return HeldOut(found(), METAS, folder / "annotations.json", how, folder)


def test_images_are_split_by_their_names_whatever_their_order() -> None:
    own, held_out = split(METAS)
    assert sorted(own + held_out) == list(range(40)) and len(own) == 16
    assert own == sorted(own) != list(range(16))
    backwards = METAS[::-1]
    assert {backwards[i].file_name for i in split(backwards)[0]} == {
        METAS[i].file_name for i in own
    }


@pytest.mark.parametrize(("images", "own"), [(4, 2), (7, 4), (32, 16), (64, 16), (200, 50)])
def test_an_interval_gets_more_images_than_scales_do(images: int, own: int) -> None:
    metas = [network_meta(f"{i}.png", 8, 8) for i in range(images)]
    assert [len(part) for part in split(metas)] == [own, images - own]


def test_too_few_images_are_refused_and_few_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StepFailed, match="expected at least 4 images, not 3"):
        split(METAS[:3])
    judge(tmp_path)
    assert not capsys.readouterr().err
    HeldOut(found(images=15), METAS[:15], tmp_path / "none", HOW, tmp_path)
    assert "judges by 15 held-out images, which is few" in capsys.readouterr().err


def test_where_fp32_finds_nothing_there_is_nothing_to_judge(tmp_path: Path) -> None:
    unsure = [replace(one, scores=one.scores * np.float32(0.2)) for one in found()]
    with pytest.raises(StepFailed, match="fp32 finds nothing"):
        HeldOut(unsure, METAS, tmp_path / "none", HOW, tmp_path)


def test_without_annotations_the_drop_is_that_of_ap50_with_fp32s_boxes_as_the_truth(
    tmp_path: Path,
) -> None:
    own, other = judge(tmp_path), found(moved=14)
    assert own.metric == "box_ap50"
    ap50, lost = (
        coco.average_precision(own.truth, one, METAS, CLASSES, False)["box_ap50"]
        for one in (found(), other)
    )
    drop = own.drop(other)
    assert drop.ap == pytest.approx(100 * (ap50 - lost), abs=1e-9) and drop.ap > 10
    assert drop.ap + 1 < drop.high < drop.ap + 30
    assert own.drop(found()) == own.drop(found()) and own.drop(found()).high == 0


def test_where_images_are_annotated_it_is_that_of_coco_ap(tmp_path: Path) -> None:
    boxes = [
        {"id": 6 * i + j + 1, "image_id": meta.image_id, "category_id": 7 + int(one.labels[j]),
         "bbox": [float(x), float(y), float(right - x), float(bottom - y)],
         "area": float((right - x) * (bottom - y)), "iscrowd": 0}
        for i, (one, meta) in enumerate(zip(found(moved=3), METAS, strict=True))
        for j, (x, y, right, bottom) in enumerate(one.boxes)
    ]  # fmt: skip
    categories = [{"id": 7 + i, "name": name} for i, name in enumerate(CLASSES)]
    images = [{"id": meta.image_id, "file_name": meta.file_name} for meta in METAS]
    document = {"images": images, "annotations": boxes, "categories": categories}
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    own = judge(tmp_path, replace(HOW, annotated=True))
    assert own.figures() == {
        "auto_metric": "box_ap", "auto_images": 40, "auto_confidence": 0.95,
    }  # fmt: skip
    fp32, lost = (
        coco.average_precision(tmp_path / "annotations.json", one, METAS, CLASSES, False)["box_ap"]
        for one in (found(), found(moved=9))
    )
    assert own.drop(found(moved=9)).ap == pytest.approx(100 * (fp32 - lost), abs=1e-9)


def test_what_auto_used_is_counted_as_nncfs_evaluations_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import precision_nncf

    once = {"auto_evaluations": 1, "auto_images": 48, "layers": 113}
    counts = precision_nncf.own_counts(once, 7.0, HOW)
    assert counts == {"evaluations": 2, "images": 96, "seconds": 7.0}
    ranked = precision_nncf.own_counts({**once, "auto_evaluations": 16}, 7.0, HOW)
    assert ranked == {"evaluations": 17, "images": 17 * 48 + 114 * 4, "seconds": 7.0}
