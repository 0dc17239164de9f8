"""The notebook of the documentation runs, and shows what running it has given."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

TOUR = PROJECT / "docs" / "tour.ipynb"


def test_the_notebook_shows_the_outputs_of_its_cells_in_order() -> None:
    cells = [one for one in json.loads(TOUR.read_text())["cells"] if one["cell_type"] == "code"]
    assert [one["execution_count"] for one in cells] == list(range(1, len(cells) + 1))
    assert all(one["outputs"] for one in cells)
    assert str(PROJECT) not in TOUR.read_text() and str(Path.home()) not in TOUR.read_text()


@pytest.mark.slow
def test_the_notebook_runs_as_it_is(demo: Path, tmp_path: Path) -> None:
    """It continues from the demo's results, of which its matrix is a part."""
    shutil.copytree(demo, tmp_path / "results")
    copy = shutil.copy(TOUR, tmp_path / "tour.ipynb")
    done = subprocess.run(
        [sys.executable, str(PROJECT / "tools" / "notebook.py"), copy],
        cwd=PROJECT, env={**os.environ, "FARM_RESULTS": str(tmp_path / "results")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = (json.loads(Path(one).read_text())["cells"] for one in (TOUR, copy))
    kinds = [
        [[x["output_type"] for x in c.get("outputs", ())] for c in one] for one in (before, after)
    ]
    assert kinds[0] == kinds[1]
    shown = json.dumps(after)
    assert "exit code 0" in shown and "did you mean 'latency_p50_ms'" in shown
