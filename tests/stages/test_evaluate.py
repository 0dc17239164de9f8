"""The stage `evaluate`: what it leaves, its interval, and when a race ends early."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_stages import constant_engine, finish

from farm.datasets import coco, matches
from farm.datasets.prepared import Prepared, PreparedWriter
from farm.detections import Detections, ImageMeta
from farm.specs import Dims, Engine, EngineOptions, EvaluateInputs, Ref, Shape, Target
from farm.stages import Context, evaluate
from farm.stages.racing import Race
from farm.store import Store
from farm.store.figures import require_figures

BOX = np.float32([[1, 1, 7, 7]])
SHAPE = Shape("s", *[Dims(1, 3, 8, 8)] * 3)
BUILT, PREPARED, REFERENCE = Ref("build", "b"), Ref("prepare", "p"), Ref("reference", "r")


def store_with(folder: Path, images: int) -> Context:
    """A store with images that have one object each, all found by the reference; ids run down."""
    context = Context(Store(folder / "store"), folder / "work", 1)
    context.folder.mkdir()
    for ref in (PREPARED, REFERENCE):
        context.store.path(ref).mkdir(parents=True)
    place, ids = context.store.path(PREPARED), range(images, 0, -1)
    with PreparedWriter(place) as writer:
        for i in ids:
            same = ImageMeta(i, f"{i}.png", 8, 8, 8, 8, 8, 8, 1.0, 1.0)
            writer.add(np.zeros((3, 8, 8), np.float32), same)
    objects = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 6, 6], "area": 36, "iscrowd": 0}
        for i in ids
    ]
    document = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in ids],
        "annotations": objects,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (place / "annotations.json").write_text(json.dumps(document))
    found = [Detections(BOX, np.float32([0.9]), np.int64([0]))] * images
    prepared = Prepared(place)
    one = coco.Evaluation(prepared.annotations, found, prepared.metas, ("thing",), False)
    matches.save(context.store.path(REFERENCE) / "matches.npz", one.matches())
    for ref in (PREPARED, REFERENCE):
        finish(context.store, ref)
    return context


def evaluated(
    context: Context, runtime: str = "null", max_ap_drop: float | None = None
) -> Mapping[str, Any]:
    if runtime == "null":
        (context.store.path(BUILT) / "engine").mkdir(parents=True)
        (context.store.path(BUILT) / "engine" / "null.txt").write_text("")
    else:
        constant_engine(context, BUILT, label=0)
    finish(context.store, BUILT)
    engine = Engine(EngineOptions(runtime, "fp32", SHAPE), BUILT, None)
    target = Target("cpu", "here")
    found = evaluate.run(
        EvaluateInputs(
            engine, PREPARED, REFERENCE, ("thing",), True, 0.5, "box", target, max_ap_drop
        ),
        context,
    )
    require_figures("evaluate", found)
    return found


def test_an_engine_that_finds_nothing_loses_all_ap_on_any_images(tmp_path: Path) -> None:
    context = store_with(tmp_path, 40)
    found = evaluated(context)
    assert (found["box_ap"], found["images"], "stopped_early" in found) == (0, 40, False)
    assert found["box_ap_drop_low"] == found["box_ap_drop_high"] == pytest.approx(1)
    kept = matches.load(context.folder / "matches.npz")
    assert kept.keys() == {"box"} and kept["box"].images == 40
    assert len(kept["box"].object_image) == 40 and not len(kept["box"].image)


def test_in_a_race_it_is_stopped_and_has_no_ap(tmp_path: Path) -> None:
    context = store_with(tmp_path, 40)
    found = evaluated(context, max_ap_drop=1.0)
    assert found["stopped_early"] is True and found["images"] == 10  # an eighth are too few
    assert "box_ap" not in found and found["box_ap_drop_low"] == pytest.approx(1)
    assert matches.load(context.folder / "matches.npz")["box"].images == 10


def test_what_is_within_the_bound_runs_to_the_end(tmp_path: Path) -> None:
    found = evaluated(store_with(tmp_path, 40), max_ap_drop=100.0)
    assert (found["box_ap"], found["images"], "stopped_early" in found) == (0, 40, False)


@pytest.mark.slow
def test_so_does_an_engine_that_is_pytorchs_equal(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = evaluated(store_with(tmp_path, 40), "onnxruntime", max_ap_drop=0.0)
    assert found["box_ap"] == pytest.approx(1) and found["images"] == 40
    assert found["box_ap_drop_low"] == found["box_ap_drop_high"] == 0


def test_a_race_looks_after_an_eighth_a_quarter_and_half_of_enough_images(tmp_path: Path) -> None:
    for images, stops in ((66, [8, 16, 33, 66]), (20, [10, 20]), (7, [7])):
        folder = tmp_path / str(images)
        folder.mkdir()
        context = store_with(folder, images)
        prepared = Prepared(context.store.path(PREPARED))
        reference = matches.load(context.store.path(REFERENCE) / "matches.npz")
        assert Race(prepared, reference, ("thing",), 1.0).stops() == stops
        assert Race(prepared, reference, ("thing",), None).stops() == [images]


def test_the_reference_so_far_is_that_of_the_first_images_whatever_their_ids(
    tmp_path: Path,
) -> None:
    context = store_with(tmp_path, 12)
    reference = matches.load(context.store.path(REFERENCE) / "matches.npz")
    # The images run from the highest id down: those that come first have the last numbers.
    one = matches.Matches(**{**vars(reference["box"]), "true": np.arange(12, dtype=np.uint16)})
    race = Race(Prepared(context.store.path(PREPARED)), {"box": one}, ("thing",), 1.0)
    part = race.so_far(4)["box"]
    assert part.images == 4 and part.true.tolist() == [8, 9, 10, 11]
    assert part.image.tolist() == part.object_image.tolist() == [0, 1, 2, 3]


def test_a_race_is_lost_by_the_lower_end_of_the_interval_alone(tmp_path: Path) -> None:
    context = store_with(tmp_path, 40)
    prepared = Prepared(context.store.path(PREPARED))
    reference = matches.load(context.store.path(REFERENCE) / "matches.npz")
    race = Race(prepared, reference, ("thing",), 5.0)
    finds = Detections(BOX, np.float32([0.9]), np.int64([0]))
    misses = Detections(BOX[:0], np.float32([]), np.int64([]))
    assert not race.is_lost([misses] * 2 + [finds] * 18)  # 10 points, perhaps fewer than 5
    assert race.is_lost([misses] * 12 + [finds] * 8)
    assert not race.is_lost([misses] * 40)  # there is nothing left to be saved
