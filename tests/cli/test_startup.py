"""What commands leave out so that they answer at once: imports, and what pydantic builds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT

HEAVY = {
    "cv2", "mlflow", "mmcv", "mmdet", "numpy", "onnx", "onnxruntime", "openvino", "pandas",
    "psutil", "pyarrow", "pycocotools", "ray", "rich", "scipy", "torch", "uv",
}  # fmt: skip

PROGRAM = """
import atexit, json, sys
from pydantic._internal import _model_construction as construction
built, build = [], construction.complete_model_class
def noted(cls, *args, **words):
    built.append(cls.__name__)
    return build(cls, *args, **words)
construction.complete_model_class = noted
import importlib.metadata as metadata
read, points = [], metadata.entry_points
metadata.entry_points = lambda **words: read.append(1) or points(**words)
def tell():
    heavy = sorted(set(sys.modules) & set(json.loads(sys.argv[-1])))
    print(json.dumps([heavy, built, len(read)]), file=sys.stderr)
atexit.register(tell)
from farm.__main__ import main
heavy, sys.argv = sys.argv[-1], sys.argv[:-1]
try:
    main()
finally:
    sys.argv.append(heavy)
"""


def done(*words: object) -> tuple[set[str], list[str], int]:
    """Return what a command imported of HEAVY, the models that pydantic built, and how often the
    entry points of all packages were read."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words), json.dumps([*HEAVY])]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    heavy, built, reads = json.loads(run.stderr.splitlines()[-1])
    return set(heavy), built, reads


@pytest.mark.parametrize("words", [(), ("plan",), ("leaderboard",), ("run",), ("bundle",)])
def test_help_builds_nothing(words: tuple[str, ...]) -> None:
    assert done(*words, "--help") == (set(), [], 0)


def test_a_plan_builds_the_model_of_its_matrix_alone(tmp_path: Path) -> None:
    """Not that of a part for a default's sake; nor are entry points read for each kind of part."""
    heavy, built, reads = done("plan", "matrices/demo.yaml", "--results", tmp_path)
    assert heavy == set()
    assert built == ["MatrixSpec"]
    assert reads <= 2  # pydantic reads them for its own plug-ins, too


def test_the_leaderboard_needs_pyarrow_and_no_pandas(demo_rows: Any, tmp_path: Path) -> None:
    heavy, built, _ = done("leaderboard", "--results", tmp_path)
    assert heavy <= {"pyarrow", "numpy", "rich"} and built == []  # pyarrow imports numpy


@pytest.fixture
def demo_rows(tmp_path: Path) -> None:
    """A leaderboard of one row."""
    from rows import row

    from farm.results import leaderboard

    leaderboard.write([row("a.cell")], tmp_path, "s")
