"""Odd annotation files on their way through a sweep and through `farm test`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import PROJECT, Done, Tool

from farm.datasets import synthetic
from farm.errors import InputError

pytestmark = pytest.mark.slow

DEMO = PROJECT / "matrices" / "demo"
Document = dict[str, Any]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotated")
    synthetic.draw(folder, 3, seed=7, size=160)
    os.symlink("nowhere", os.fsencode(folder / "images") + b"/\xff.png")  # of no image: no harm
    return folder


def changed(drawn: Path, change: Callable[[Document], object]) -> Path:
    document = json.loads((drawn / "annotations.json").read_text())
    change(document)
    Path("changed.json").write_text(json.dumps(document))
    return Path("changed.json").resolve()


def first(**fields: Any) -> Callable[[Document], object]:
    return lambda document: document["annotations"][0].update(fields)


def from_0_without_crowds(document: Document) -> None:
    for i, one in enumerate(document["annotations"]):
        del one["iscrowd"]
        one["id"] = i


# Sweeps ---------------------------------------------------------------------------------------


@pytest.fixture
def sweep(tool: Tool, drawn: Path, small_matrix: Path) -> Callable[..., Done]:
    def run(model: str, annotations: Path) -> Done:
        images = drawn / "images"
        dataset = f"dataset={{type: coco, images: {images}, annotations: {annotations}}}"
        files = f"config: {DEMO}/{model}.py, checkpoint: {DEMO}/{model}.pth"
        models = f"models={{{model}: {{{files}}}}}"
        words = ("--executor", "inline", "--no-mlflow", "--results", Path.cwd() / "results")
        return tool("run", small_matrix, models, dataset, "runtimes=[null]", *words)

    return run


def test_a_sweep_counts_object_0_and_says_what_it_filled_in(
    sweep: Callable[..., Done], drawn: Path
) -> None:
    odd, good = changed(drawn, from_0_without_crowds), drawn / "annotations.json"
    figures = []
    for path in (good, odd, odd):  # the last finds all done
        done = sweep("onestage", path)
        assert done.code == 1, done.err  # the runtime that finds nothing is the cheapest
        (row,) = pd.read_parquet("results/leaderboard").to_dict("records")
        figures.append(row["bbox_mAP_reference"])
        notes = [line for line in done.err.splitlines() if line.startswith("Note: ")]
        assert len(notes) == (0 if path == good else 2), done.err
    assert figures[0] == figures[1] == figures[2] and figures[0] > 0.3
    assert notes[0].startswith(f"Note: {odd}: an annotation has the id 0")
    assert "annotations have no 'iscrowd': taken as 0" in notes[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first(segmentation=[]), "annotations[0] (id 1): its segmentation is missing or empty"),
        (
            first(segmentation={"size": [160, 160], "counts": [0, 204800]}),
            "counts for 204800 pixels; its image has 160x160",
        ),
        (first(bbox=[1, 2, None, 4]), "annotations[0] (id 1): 'bbox' is [1, 2, None, 4]"),
    ],
    ids=["empty", "long", "null"],
)
def test_what_masks_cannot_be_evaluated_with_ends_a_sweep_in_check(
    sweep: Callable[..., Done],
    drawn: Path,
    small_matrix: Path,
    change: Callable[[Document], object],
    said: str,
) -> None:
    path = changed(drawn, change)
    done = sweep("twostage", path)
    assert done.code == 2 and f"{path}: " in done.err and said in done.err, done.err
    assert "Traceback" not in done.err


# farm test ------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(tool: Tool, drawn: Path) -> Callable[..., Done]:
    def run(model: str, annotations: Path, *metrics: str) -> Done:
        return tool(
            "test", DEMO / f"{model}.py", DEMO / f"{model}.pth", "--backend", "torch",
            "--eval", *metrics, "--cfg-options", f"data.test.ann_file={annotations}",
            f"data.test.img_prefix={drawn / 'images'}",
        )  # fmt: skip

    return run


def test_farm_test_says_that_mmdet_never_finds_object_0(
    evaluated: Callable[..., Done], drawn: Path
) -> None:
    path = changed(drawn, first(id=0))
    done = evaluated("onestage", path, "bbox")
    assert done.code == 0 and "bbox_mAP" in done.out, done.err
    assert f"Note: {path}: an annotation has the id 0, which mmdet's evaluation never" in done.err


def test_farm_test_says_where_figures_may_be_wrong(
    evaluated: Callable[..., Done], drawn: Path
) -> None:
    path = changed(drawn, first(area=float("nan")))
    done = evaluated("onestage", path, "bbox")
    assert done.code == 0 and "bbox_mAP" in done.out, done.err
    assert f"Note: {path}: not in COCO's format: annotations[0] (id 1): 'area'" in done.err


@pytest.mark.parametrize(
    ("model", "metrics", "change", "said"),
    [
        (
            "twostage",
            ("bbox", "segm"),
            first(segmentation={"size": [160, 160], "counts": [0, 204800]}),
            "counts for 204800 pixels",
        ),
        (
            "twostage",
            ("segm",),
            lambda one: one["annotations"][0].pop("segmentation"),
            "is missing",
        ),
        ("onestage", ("bbox",), from_0_without_crowds, "annotation 0 has no 'iscrowd', without"),
        ("onestage", ("bbox",), lambda one: one["annotations"][1].pop("area"), "has no 'area'"),
        ("onestage", ("bbox",), first(bbox=None), "annotation 1: 'bbox' is None, with which"),
        ("onestage", ("bbox",), first(id=2), "Annotation ids in "),
    ],
    ids=["long", "none", "crowd", "area", "null", "twice"],
)
def test_farm_test_refuses_what_coco_tools_would_hang_or_crash_on(
    evaluated: Callable[..., Done],
    drawn: Path,
    model: str,
    metrics: tuple[str, ...],
    change: Callable[[Document], object],
    said: str,
) -> None:
    done = evaluated(model, changed(drawn, change), *metrics)
    assert done.code == 2 and said in done.err, done.err
    assert "Traceback" not in done.err


def require_evaluable(dataset: Any, metrics: list[str]) -> None:
    from farm.single.mmdet.dataset import require_evaluable

    require_evaluable(dataset, metrics)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(drawn: Path, change: Callable[[Document], object]) -> Any:
    """The changed file as mmdet opens it, and for each image the first object's own box."""
    from farm.sources.mmdet import compat  # noqa: F401

    # isort: split
    from mmdet.datasets import CocoDataset

    path = str(changed(drawn, change))
    dataset = CocoDataset(path, [], classes=synthetic.CLASSES, test_mode=True)
    x, y, w, h = json.loads((drawn / "annotations.json").read_text())["annotations"][0]["bbox"]
    box = np.array([[x, y, x + w, y + h, 0.9]], np.float32)
    return dataset, [[box] * len(synthetic.CLASSES)] * len(dataset)


BOXES = (None, "text", 7, [], [5, 5, 20], [5, 5, 20, 20, 3], [*"abcd"], [5, 5, "x", 20], {"x": 5})
CRASHING = [
    *({"bbox": one} for one in (*BOXES, [[5], 5, 20, 20], [10**400, 5, 20, 20])),
    *({"area": one} for one in (None, "400", [4], {})),
    *({"iscrowd": one} for one in (None, "x", [], float("nan"), float("inf"), 2**40, -1)),
    {"id": "a1"},
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("fields", CRASHING, ids=str)
def test_farm_test_refuses_each_value_that_crashes_mmdets_evaluation(
    drawn: Path, fields: dict[str, Any]
) -> None:
    dataset, found = opened(drawn, first(**fields))
    (name,) = fields
    with pytest.raises(InputError, match=f"annotation .*: '{name}' is .* evaluation fails"):
        require_evaluable(dataset, ["bbox"])
    with pytest.raises(Exception, match=r"."):
        dataset.evaluate(found, metric="bbox")


@pytest.mark.usefixtures("here")
def test_farm_test_refuses_a_lost_box_and_texts_of_numbers(drawn: Path) -> None:
    lost, _ = opened(drawn, lambda one: one["annotations"][0].pop("bbox"))
    with pytest.raises(InputError, match="annotation 1: 'bbox' is None"):
        require_evaluable(lost, ["bbox"])
    text, _ = opened(drawn, first(bbox=["5", "5", "20", None]))
    with pytest.raises(InputError, match=r"'bbox' is .'5', '5', '20', None., with which"):
        require_evaluable(text, ["proposal_fast"])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "fields",
    [
        {"bbox": [float("nan"), 5, 20, 20]},
        {"bbox": [5, 5, -20, 20]},
        {"area": float("inf")},
        {"area": -1},
        {"iscrowd": 2},
        {"iscrowd": 0.5},
        {"image_id": 99},
        {"category_id": 99},
    ],
    ids=str,
)
def test_what_only_counts_wrongly_is_noted(
    drawn: Path, fields: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, found = opened(drawn, first(**fields))
    require_evaluable(dataset, ["bbox"])
    assert "its figures may be wrong" in capsys.readouterr().err
    dataset.evaluate(found, metric="bbox")


@pytest.mark.parametrize("absolute", [False, True])
def test_farm_test_paints_nothing_outside_of_its_folder(
    tool: Tool, drawn: Path, absolute: bool
) -> None:
    outside = Path("outside.png").resolve()
    shutil.copy(drawn / "images" / "000001.png", outside)
    Path("images").mkdir()
    name = str(outside) if absolute else "../outside.png"
    path = changed(drawn, lambda one: one.update(images=[{**one["images"][0], "file_name": name}]))
    before = outside.read_bytes()
    done = tool(
        "test", DEMO / "onestage.py", DEMO / "onestage.pth", "--backend", "torch",
        "--show-dir", "shown", "--cfg-options", f"data.test.ann_file={path}",
        f"data.test.img_prefix={Path('images').resolve()}",
    )  # fmt: skip
    assert done.code == 2 and "would be painted outside of" in done.err, done.err
    assert outside.read_bytes() == before
