"""Two sweeps at the same time in one place of results: each step is run once, by either of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import PROJECT
from object_stores import S3

from farm.store.opening import open_store

pytestmark = pytest.mark.slow


def start(matrix: Path, results: str, folder: Path) -> subprocess.Popen[str]:
    """Run a sweep as on a host of its own. folder: what that keeps of an object store."""
    command = [sys.executable, "-m", "farm", "run", str(matrix), "--results", results]
    return subprocess.Popen(
        [*command, "--no-mlflow", "-v", "--executor", "inline"],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "FARM_CACHE": str(folder)},
    )  # fmt: skip


@pytest.mark.parametrize("where", ["folder", "objects"])
def test_no_step_is_run_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3, where: str
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    from null_sweep import write_matrix

    results = str(tmp_path / "r") if where == "folder" else f"s3://{s3.bucket()}/r"
    matrices = [write_matrix(tmp_path / name, 12, name) for name in ("one", "two")]
    (tmp_path / "two" / "null.onnx").write_bytes((tmp_path / "one" / "null.onnx").read_bytes())
    both = [start(matrix, results, matrix.parent / "cache") for matrix in matrices]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    runs = Counter(
        key for text in said for key in re.findall(r"submitted \w+ .*\((\w{12})\)", text)
    )
    twice = {key: [text for text in said if key in text] for key, n in runs.items() if n > 1}
    assert runs and not twice
    assert all(re.search("submitted", text) for text in said)
    objects = open_store(f"{results}/store").objects
    names = [one.name for one in objects.listed("")]
    stages = Counter(name.partition("/")[0] for name in names if name.endswith("/record.json"))
    assert stages["measure"] == 12 and sum(stages.values()) == len(runs)
    assert not [name for name in names if name.startswith("claims/")]
