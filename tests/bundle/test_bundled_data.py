"""Bundles of cells that were evaluated on the data set of the model's own config."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import PROJECT, Tool, needs_packages, run_farm

from farm.bundle import detector
from farm.datasets import synthetic

pytestmark = [pytest.mark.slow, needs_packages]

DEMO = PROJECT / "matrices" / "demo"
CELL = "own.op17.fixed.fp32.onnxruntime.cpu"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, its data set, a matrix of `dataset: config`, and its results."""
    place = tmp_path_factory.mktemp("own")
    synthetic.draw(place / "data", 4, 7, 160)
    test = (
        f"type='CocoDataset', ann_file='{place}/data/annotations.json',"
        f" img_prefix='{place}/data/images'"
    )
    (place / "own.py").write_text(
        f"_base_ = ['{DEMO}/onestage.py']\ndata = dict(test=dict({test}))\n"
    )
    (place / "m.yaml").write_text(
        f"name: own\nmodels: {{own: {{config: own.py, checkpoint: {DEMO}/onestage.pth}}}}\n"
        "opsets: [17]\nshapes: {fixed: {opt: 160x160}}\nruntimes: [onnxruntime]\n"
        "dataset: config\nverify: {images: 2}\n"
        "measure: {seconds: 0.05, warmup_seconds: 0, min_samples: 10, throughput: false}\n"
    )
    words = ("--executor", "inline", "--no-mlflow", "--results", place / "r")
    done = run_farm("run", place / "m.yaml", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_the_sample_is_an_image_of_the_configs_data_set(
    place: Path, tool: Tool, tmp_path: Path
) -> None:
    done = tool("bundle", CELL, "new", "--results", place / "r")
    assert done.code == 0, done.err
    own = (tmp_path / "new" / "sample.png").read_bytes()
    assert own in [path.read_bytes() for path in (place / "data" / "images").iterdir()]
    found = detector.read_bundle(tmp_path / "new")
    assert {*found["sample"]["names"]} <= {*synthetic.CLASSES} and found["sample"]["boxes"]
    assert tool("check", "new").code == 0


def test_images_that_are_gone_are_told_with_what_to_do(
    place: Path, tool: Tool, tmp_path: Path
) -> None:
    shutil.move(place / "data" / "images", place / "data" / "away")
    try:
        done = tool("bundle", CELL, "new", "--results", place / "r")
    finally:
        shutil.move(place / "data" / "away", place / "data" / "images")
    assert done.code == 2 and "give a sample image with --sample" in done.err
    assert not (tmp_path / "new").exists()
