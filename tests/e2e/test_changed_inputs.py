"""A checkpoint that is overwritten while its sweep runs, by a model whose own code does so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from conftest import PROJECT, Farm

from farm.store import Store

pytestmark = pytest.mark.slow

# The function is called before its checkpoint is read: so other weights are loaded than planned.
OWN = """\
import traceback
from pathlib import Path

import peaks

HERE = Path(__file__).parent

def detector():
    other = HERE / "other.pth"
    files = [frame.filename for frame in traceback.extract_stack()]
    if any(f"/farm/stages/{STAGE}" in file for file in files) and other.exists():
        other.replace(HERE / "own.pth")
    return peaks.detector()
"""
MATRIX = """\
name: own
models:
  own:
    source: module
    function: own:detector
    checkpoint: own.pth
    classes: [circle, square, triangle, star]
    preprocess: {mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375], pad: 32}
opsets: [17]
shapes: {fixed: {opt: 160x160}}
runtimes: [onnxruntime]
dataset: {type: synthetic, count: 6, seed: 7, size: 160}
measure: {seconds: 0.1, warmup_seconds: 0, min_samples: 10}
compare: false
verify: {images: 4}
"""


@pytest.mark.parametrize("stage", ["check", "export"])
def test_nothing_is_kept_under_the_key_of_what_was_planned(
    stage: str, tmp_path: Path, farm: Farm
) -> None:
    import torch

    source = PROJECT / "matrices" / "sources"
    for name, target in (("peaks.py", "peaks.py"), ("peaks.pth", "own.pth")):
        shutil.copyfile(source / name, tmp_path / target)
    kept = torch.load(source / "peaks.pth", weights_only=True)
    other = {
        name: value * 0.5 if value.is_floating_point() else value
        for name, value in kept["state_dict"].items()
    }
    torch.save({"state_dict": other}, tmp_path / "other.pth")
    (tmp_path / "own.py").write_text(OWN.replace("STAGE", repr(stage)))
    (tmp_path / "m.yaml").write_text(MATRIX)
    words = (tmp_path / "m.yaml", "--executor", "inline", "--no-mlflow", "--results")

    done = farm("run", *words, tmp_path / "r")
    assert done.returncode == 1, done.stdout + done.stderr
    said = f"{tmp_path / 'own.pth'} changed while the sweep ran; run it again"
    assert said in done.stdout + done.stderr
    store = Store(tmp_path / "r" / "store")
    before = set(store.refs(stage))
    assert before == set() and not list((store.root / "failed").glob("*.json"))
    assert not (tmp_path / "other.pth").exists()

    again = farm("run", *words, tmp_path / "r")
    assert "changed while" not in again.stdout + again.stderr
    assert len([*store.refs(stage)]) == 1
    fresh = farm("run", *words, tmp_path / "fresh")
    assert fresh.returncode == again.returncode
    columns = ["status", "bbox_mAP", "bbox_mAP_reference", f"{stage}_key"]
    found, right = (
        pd.read_parquet(tmp_path / one / "leaderboard")[columns] for one in ("r", "fresh")
    )
    pd.testing.assert_frame_equal(found, right)
