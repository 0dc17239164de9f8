"""Two sweeps at the same time in one results folder: each step is run once, by either of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import PROJECT

pytestmark = pytest.mark.slow


def start(matrix: Path, results: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "farm", "run", str(matrix), "--results", str(results)]
    return subprocess.Popen(
        [*command, "--no-mlflow", "-v", *words],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_no_step_is_run_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    from null_sweep import write_matrix

    results = tmp_path / "r"
    matrices = [write_matrix(tmp_path / name, 12, name) for name in ("one", "two")]
    (tmp_path / "two" / "null.onnx").write_bytes((tmp_path / "one" / "null.onnx").read_bytes())
    both = [start(matrix, results, "--executor", "inline") for matrix in matrices]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    runs = Counter(
        key for text in said for key in re.findall(r"submitted \w+ .*\((\w{12})\)", text)
    )
    assert runs and set(runs.values()) == {1}
    stages = Counter(path.parts[-4] for path in (results / "store").glob("*/*/*/record.json"))
    assert stages["measure"] == 12 and sum(stages.values()) == len(runs)
    assert list((results / "store" / "claims").iterdir()) == []
