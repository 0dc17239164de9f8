"""`farm bisect` on the cells of a sweep, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, Farm, run_farm

pytestmark = pytest.mark.slow

CELL = "ready.fixed.{}.onnxruntime.cpu"
FIRST = "/module/heads/at2/at2.0/Conv"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of a small ready file in fp32 and bf16."""
    folder = tmp_path_factory.mktemp("bisect")
    values = yaml.safe_load((PROJECT / "matrices" / "sources.yaml").read_text())
    ready = values["models"]["ready"]
    ready["file"] = str(PROJECT / "matrices" / ready["file"])
    values |= {"models": {"ready": ready}, "runtimes": ["onnxruntime"], "name": "bisected"}
    values |= {"shapes": {"fixed": {"opt": "160x160"}}, "precisions": ["fp32", "bf16"]}
    values["dataset"]["count"] = 4
    values["measure"] = {"seconds": 0.1, "warmup_seconds": 0, "min_samples": 10}
    values["verify"] = {"precisions": {"bf16": {"max_score_diff": 1e-6, "per_box": False}}}
    (folder / "m.yaml").write_text(yaml.safe_dump(values))
    words = ("run", folder / "m.yaml", "--executor", "inline", "--no-mlflow")
    done = run_farm(*words, "--results", folder / "r")
    assert done.returncode == 1 and "2 cells, 1 failed" in done.stderr, done.stdout + done.stderr
    return folder / "r"


def test_an_engine_that_agrees_leaves_nothing(farm: Farm, results: Path) -> None:
    done = farm("bisect", CELL.format("fp32"), "--results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\nNothing leaves the tolerance.\n")
    assert "onnxruntime in fp32 against the fp32 file: " in done.stdout


def test_an_engine_in_bf16_is_searched_for_its_first_node(farm: Farm, results: Path) -> None:
    """Its boxes differ by the matrix; and by the search's tolerance each node rounds too much."""
    words = ("bisect", CELL.format("bf16"), "--results", results, "--tolerance", "1e-3")
    done = farm(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    text = " ".join(done.stdout.rpartition("\n\n")[2].split())
    assert text.startswith(f"onnxruntime in bf16 leaves the fp32 file at {FIRST} (Conv, module ")
    assert "module module.heads.at2.0" in text and "of its largest value" in text
    (found,) = json.loads(farm(*words, "--json").stdout)
    assert found["found"]["node"] == FIRST
    assert found["found"]["difference"] > 1e-3 and found["found"]["by_itself"] > 1e-3
    assert found["differs"].startswith("scores differ by ")


def test_boxes_that_differ_without_a_value_beyond_the_tolerance(farm: Farm, results: Path) -> None:
    done = farm("bisect", CELL.format("bf16"), "--results", results)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a lower --tolerance says where that begins" in " ".join(done.stdout.split())
    assert "largest step" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ready.fixed.fp16.onnxruntime.cpu"], "no cell 'ready.fixed.fp16.onnxruntime.cpu'; did"),
        ([CELL.format("fp32"), "--against", "pytorch"], "is a ready ONNX file, without PyTorch"),
        ([CELL.format("fp32"), "--tolerance", "0"], "0 is no tolerance"),
        ([CELL.format("fp32"), "--images", "0"], "0 is no number of images"),
        ([CELL.format("fp32"), "--memory", "12"], "is not a size with a unit"),
        ([CELL.format("fp32"), "--against", "onnx"], "invalid choice"),
    ],
)
def test_wrong_input(farm: Farm, results: Path, words: list[str], said: str) -> None:
    done = farm("bisect", *words, "--results", results)
    assert done.returncode == 2 and said in done.stderr, done.stderr
