"""What the README reads the leaderboard's files with, outside of the farm."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT
from rows import row

from farm.results import leaderboard

README = (PROJECT / "README.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
BLOCKS = [block for block in PYTHON if "results/leaderboard" in block]


@pytest.mark.slow
def test_pandas_and_duckdb_read_all_sweeps_and_targets_as_one_table(tmp_path: Path) -> None:
    place = tmp_path / "results"
    leaderboard.write([row("first", latency_p50_ms=7.0), row("second")], place, "s")
    leaderboard.write([row("third", target="a gpu", sweep="t", box_ap=0.25)], place, "t")
    assert len(BLOCKS) == 1
    lines = [
        f"print({line})" if line.startswith(("pandas.", "duckdb.")) else line
        for line in BLOCKS[0].splitlines()
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(lines) >= 3
    for cell in ("first", "second", "third"):
        assert done.stdout.count(cell) == 2, done.stdout
    assert "bbox_mAP" in done.stdout and "0.25" in done.stdout
