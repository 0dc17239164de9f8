"""What a plan makes of parts that another package adds: their inputs, files, packages and needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3]

CODE = """\
from typing import Annotated, Literal
from farm.config.models import OwnFormSpec
from farm.datasets.base import DatasetType
from farm.options import DatasetOptions, ImageFolder, InputFile, OutputPlace, RuntimeOptions, Text
from farm.parts import ExtraStage, Source
from farm.runtimes.base import Runtime

class Options(RuntimeOptions):
    one: Annotated[Text, InputFile("note")] | None = None
    several: list[Annotated[Text, InputFile("note")]] = []
    place: Annotated[Text, OutputPlace()] | None = None
    images: Annotated[Text, ImageFolder()] | None = None
    plain: int = 3

class Kept(OwnFormSpec):
    source: Literal["kept"]
    network: Annotated[Text, InputFile("network")]
    unsaid: int = 1

class Discs(DatasetOptions):
    type: Literal["discs"]
    seed: int = 5
    unsaid: int = 1

RUNTIME = Runtime(name="mirror", engines=lambda: None, options=Options)
SOURCE = Source(name="kept", packages=("onnx",), adapter=lambda: None, spec=Kept, eager=False)
DATASET = DatasetType(name="discs", adapter=lambda: None, spec=Discs)
STAGE = ExtraStage(name="weigh", packages=("numpy",), run=lambda: None)
ALONE = ExtraStage(name="listen", run=lambda: None, exclusive=True)
"""
POINTS = """\
[farm.runtimes]
mirror = other_parts:RUNTIME
[farm.sources]
kept = other_parts:SOURCE
[farm.datasets]
discs = other_parts:DATASET
[farm.stages]
weigh = other_parts:STAGE
listen = other_parts:ALONE
"""
MATRIX = """\
name: own
models: {m: {source: kept, network: n.onnx, classes: [x], clip_boxes: false}}
shapes: {s: {opt: 64x64}}
runtimes: [mirror, onnxruntime]
dataset: {type: discs, seed: 7, limit: 4}
runtime_options:
  mirror: {one: a.txt, several: [a.txt, b.txt], place: cache/, images: images}
"""
PLAN = """\
import json, sys
from dataclasses import asdict
from farm.config.loader import load_matrix
from farm.plan import STAGES, make_plan
from farm.specs import ModelFacts
plan = make_plan(load_matrix(sys.argv[1]), lambda key: ModelFacts(("x",), False, "[]"))
steps = {key: asdict(step) for key, step in plan.steps.items()}
cells = {cell.cell.id: dict(cell.steps) for cell in plan.cells}
missing = [str(one) for one in plan.missing]
print(json.dumps({"steps": steps, "cells": cells, "missing": missing, "stages": list(STAGES)}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    info = folder / "other_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-parts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    (folder / "images").mkdir()
    for name, text in (
        ("other_parts.py", CODE), ("m.yaml", MATRIX), ("n.onnx", "n"), ("a.txt", "a"),
        ("b.txt", "b"), ("images/1.png", "i"),
    ):  # fmt: skip
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def plan(folder: Path) -> Any:
    path = os.pathsep.join([str(PROJECT), str(folder), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", PLAN, str(folder / "m.yaml")],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def step(plan: Any, stage: str, runtime: str = "mirror") -> Any:
    (cell,) = (steps for name, steps in plan["cells"].items() if f".{runtime}." in name)
    return plan["steps"][cell[stage]]


def test_a_model_and_a_data_set_are_what_the_matrix_says_of_them(plan: Any, folder: Path) -> None:
    assert plan["missing"] == []
    inputs = step(plan, "check")["inputs"]
    model, data = inputs["model"], inputs["dataset"]
    assert (model["name"], model["source"], model["root"]) == ("m", "kept", str(folder))
    assert (model["classes"], model["clip_boxes"], model["outputs"]) == (["x"], False, "detections")
    ((name, file),) = model["options"]
    assert (name, file["path"], len(file["digest"])) == ("network", str(folder / "n.onnx"), 64)
    assert data == {"type": "discs", "options": [["seed", 7]], "limit": 4}
    assert step(plan, "prepare")["inputs"]["dataset"] == data


def test_options_that_name_files_count_by_what_is_in_them(plan: Any, folder: Path) -> None:
    options = dict(step(plan, "build")["inputs"]["options"]["options"])
    assert list(options) == sorted(options) == ["images", "one", "place", "several"]
    assert options["one"]["path"] == str(folder / "a.txt")
    assert [one["path"] for one in options["several"]] == [
        str(folder / "a.txt"), str(folder / "b.txt"),
    ]  # fmt: skip
    assert options["one"] == options["several"][0] != options["several"][1]
    assert options["place"] == {"path": f"{folder}/cache/"}
    assert options["images"]["path"] == str(folder / "images")
    assert step(plan, "build", "onnxruntime")["inputs"]["options"]["options"] == []


def test_stages_of_others_run_on_each_engine_with_their_packages(plan: Any) -> None:
    assert plan["stages"][-2:] == ["listen", "weigh"] and plan["stages"][0] == "check"
    for runtime in ("mirror", "onnxruntime"):
        built, prepared = (step(plan, stage, runtime)["key"] for stage in ("build", "prepare"))
        for stage, exclusive in (("weigh", False), ("listen", True)):
            found = step(plan, stage, runtime)
            assert set(found["inputs"]) == {"engine", "prepared", "target"}
            assert found["inputs"]["engine"]["built"]["key"] == built
            assert found["parents"] == [built, prepared]
            assert found["needs"]["exclusive"] is exclusive
    assert set(dict(step(plan, "weigh")["toolchain"])) == {"numpy", "other-parts"}
    assert set(dict(step(plan, "listen")["toolchain"])) == {"other-parts"}
    assert "other-parts" in dict(step(plan, "check")["toolchain"])
    assert dict(step(plan, "check")["toolchain"])["other-parts"].startswith("1.0")
