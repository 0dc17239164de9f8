"""Ready ONNX files need neither PyTorch nor mmcv nor mmdet; torch modules need PyTorch alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import PROJECT, Farm

pytestmark = pytest.mark.slow

MATRICES = PROJECT / "matrices"
FIGURES = [
    "bbox_mAP",
    "bbox_mAP_50",
    "matched_fraction",
    "max_score_diff",
    "max_box_diff_px",
    "status",
]

REFUSAL = """
import sys

class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"{{name}} is refused by the test", name=name)

sys.meta_path.insert(0, Refusal())
"""


def refusing(folder: Path, *names: str) -> dict[str, str]:
    """The environment in which every process of Python finds none of these packages."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(REFUSAL.format(names=set(names)))
    return {"PYTHONPATH": str(folder)}


def matrix(path: Path, model: str) -> Path:
    """`matrices/sources.yaml` with this one model on a few images."""
    values = yaml.safe_load((MATRICES / "sources.yaml").read_text())
    own = values["models"][model]
    if "file" in own:
        own["file"] = str(MATRICES / own["file"])
    own["simplify"] = True
    values |= {"models": {model: own}, "runtimes": ["onnxruntime", "openvino"]}
    values["dataset"]["count"] = 8
    values["measure"] = {"seconds": 0.1, "warmup_seconds": 0, "min_samples": 10}
    path.write_text(yaml.safe_dump(values))
    return path


def swept(farm: Farm, matrix: Path, results: Path, env: dict[str, str]) -> pd.DataFrame:
    words = ("--executor", "inline", "--no-mlflow", "--results", results)
    done = farm("run", matrix, *words, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return pd.read_parquet(results / "leaderboard").set_index("cell").sort_index()


def test_the_refusal_holds(tmp_path: Path) -> None:
    env = refusing(tmp_path / "refusing", "torch", "mmcv", "mmdet")
    for name in ("torch", "mmcv", "mmdet.apis"):
        code = [sys.executable, "-c", f"import {name}"]
        done = subprocess.run(code, env=env, capture_output=True, text=True, check=False)
        assert "refused by the test" in done.stderr


def test_a_ready_file_is_swept_without_torch_mmcv_and_mmdet(tmp_path: Path, farm: Farm) -> None:
    """Simplified, and in a lower precision, too."""
    one = matrix(tmp_path / "ready.yaml", "ready")
    one.write_text(f"{one.read_text()}precisions: [fp32, fp16]\n")
    env = refusing(tmp_path / "refusing", "torch", "torchvision", "mmcv", "mmdet", "mmcls")
    found = swept(farm, one, tmp_path / "without", env)
    assert len(found) == 4 and (found.status == "ok").all()
    assert (found.bbox_mAP > 0.5).all() and (found.matched_fraction == 1).all()
    whole = swept(farm, one, tmp_path / "with", {})
    pd.testing.assert_frame_equal(found[FIGURES], whole[FIGURES])
    keys = [name for name in found if name.endswith("_key") and name != "compare_key"]
    pd.testing.assert_frame_equal(found[keys], whole[keys])
    (record,) = (tmp_path / "without" / "store").glob("prepare/**/record.json")
    toolchain = json.loads(record.read_text())["toolchain"]
    assert set(toolchain) == {"numpy", "opencv-python-headless"}  # what prepares them, no more


def test_a_module_is_swept_without_mmcv_and_mmdet(tmp_path: Path, farm: Farm) -> None:
    one = matrix(tmp_path / "module.yaml", "module")
    (tmp_path / "sources").symlink_to(MATRICES / "sources")
    env = refusing(tmp_path / "refusing", "mmcv", "mmdet", "mmcls")
    found = swept(farm, one, tmp_path / "r", env)
    assert len(found) == 2 and (found.status == "ok").all() and (found.bbox_mAP > 0.5).all()
