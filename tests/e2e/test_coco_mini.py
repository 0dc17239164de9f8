"""Real images and a real checkpoint: the AP that mmdet itself gives, on every runtime."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from coco_ap import average_precision
from conftest import Farm

from farm.bundle.detector import Detector

pytestmark = pytest.mark.slow

PUBLISHED = 0.3062
"""Box AP of this checkpoint on these images by mmdet's own test pipeline and `evaluate`."""


@pytest.fixture(scope="module")
def env(shared: Path) -> dict[str, str]:
    return {"COCO_MINI": str(shared / "coco-mini"), "CHECKPOINTS": str(shared / "checkpoints")}


@pytest.fixture(scope="module")
def results(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory, farm: Farm) -> Path:
    folder = tmp_path_factory.mktemp("coco-mini") / "r"
    words = ("measure.seconds=0.1", "measure.max_seconds=1", "measure.warmup_seconds=0")
    words = (*words, "--no-mlflow", "--results", folder)
    done = farm("run", "matrices/coco-mini.yaml", *words, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_yolox_nano_has_its_own_ap_on_every_runtime(results: Path) -> None:
    table = pd.read_parquet(results / "leaderboard")
    exported = table[table.runtime != "torch"]
    assert sorted(zip(exported.runtime, exported.opset, exported["shape"], strict=True)) == [
        (runtime, opset, shape)
        for runtime in ("onnxruntime", "openvino")
        for opset in (11, 17)
        for shape in ("dynamic", "fixed")
    ]
    assert (abs(table.bbox_mAP_reference - PUBLISHED) < 0.0005).all()
    assert (abs(table.bbox_mAP - PUBLISHED) < 0.001).all()
    assert (table.matched_fraction == 1).all()


def test_a_bundle_of_yolox_nano_has_the_ap_of_its_row(
    results: Path, env: dict[str, str], shared: Path, tmp_path: Path, farm: Farm
) -> None:
    """The images have all sizes, and YOLOX pads them with 114."""
    cell = "yolox_nano.op17.fixed.fp32.openvino.cpu"
    done = farm("bundle", cell, tmp_path / "b", "--results", results, env=env)
    assert done.returncode == 0, done.stderr
    detector, data = Detector(tmp_path / "b"), shared / "coco-mini"
    found = {path.name: detector.detect(path) for path in sorted((data / "val2017").iterdir())}
    table = pd.read_parquet(results / "leaderboard").set_index("cell")
    ap = average_precision(data / "instances_val2017.json", found)
    assert ap == pytest.approx(table.bbox_mAP[cell], abs=1e-6)


def test_unset_variables_are_told_with_their_lines(farm: Farm) -> None:
    done = farm("plan", "matrices/coco-mini.yaml")
    assert done.returncode == 2
    assert "matrices/coco-mini.yaml:7: the environment variable CHECKPOINTS" in done.stderr
    assert "matrices/coco-mini.yaml:15: the environment variable COCO_MINI" in done.stderr
