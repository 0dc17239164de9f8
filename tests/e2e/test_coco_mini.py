"""Real images and a real checkpoint: the AP that mmdet itself gives, on every runtime."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import Farm

pytestmark = pytest.mark.slow

PUBLISHED = 0.3062
"""Box AP of this checkpoint on these images by mmdet's own test pipeline and `evaluate`."""


def test_yolox_nano_has_its_own_ap_on_every_runtime(
    shared: Path, tmp_path: Path, farm: Farm
) -> None:
    env = {"COCO_MINI": str(shared / "coco-mini"), "CHECKPOINTS": str(shared / "checkpoints")}
    words = ("measure.seconds=0.1", "measure.max_seconds=1", "measure.warmup_seconds=0")
    words = (*words, "--no-mlflow", "--results", tmp_path / "r")
    done = farm("run", "matrices/coco-mini.yaml", *words, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_parquet(tmp_path / "r" / "leaderboard")
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


def test_unset_variables_are_told_with_their_lines(farm: Farm) -> None:
    done = farm("plan", "matrices/coco-mini.yaml")
    assert done.returncode == 2
    assert "matrices/coco-mini.yaml:7: the environment variable CHECKPOINTS" in done.stderr
    assert "matrices/coco-mini.yaml:15: the environment variable COCO_MINI" in done.stderr
