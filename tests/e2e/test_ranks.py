"""A sweep whose cells are compared, and measured and compared again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from farm.results import leaderboard
from farm.results.kept import history
from farm.specs import Ref
from farm.store import Store

if TYPE_CHECKING:
    import subprocess

Farm = Callable[..., "subprocess.CompletedProcess[str]"]

pytestmark = pytest.mark.slow

A = "onestage.op11.fixed.fp32.onnxruntime.cpu"
B = "onestage.op17.fixed.fp32.onnxruntime.cpu"


def test_cells_are_ranked_side_by_side_and_measured_again_on_demand(
    small_matrix: Path, tmp_path: Path, farm: Farm
) -> None:
    where = ("--results", tmp_path / "r")
    words = (small_matrix, "opsets=[11, 17]", *where, "--executor", "inline", "--no-mlflow")
    out = farm("run", *words)
    assert out.returncode == 0 and "compare onestage: done" in out.stderr
    rows = {row["cell"]: row for row in leaderboard.read(tmp_path / "r")}
    key = rows[A]["compare_key"]
    assert set(rows) == {A, B} and key == rows[B]["compare_key"] is not None
    for row in rows.values():
        assert row["rank"] in (1, 2) and row["rounds"] >= 2 and row["vs_best"] > 0
        assert row["measured_at"].endswith("Z") and row["order_seed"] is not None
    blocks = np.load(Store(tmp_path / "r/store").path(Ref("compare", key)) / "blocks.npy")
    assert blocks.shape[1] == 2 and np.isfinite(blocks).all()

    assert "compare onestage" not in farm("run", *words).stderr, "it is in the store"
    assert "No cell was measured again" in farm("leaderboard", "--history", *where).stdout

    again = farm("run", *words, "--again", "measure", "--only", A)
    assert again.returncode == 0 and "1 cells: measure runs again" in again.stderr
    assert again.stderr.count(": done") == 2, "one measure and the comparison"
    (earlier,) = history.read(tmp_path / "r")
    assert earlier == rows[A]
    new = {row["cell"]: row for row in leaderboard.read(tmp_path / "r")}
    assert new[A]["latency_mean_ms"] != rows[A]["latency_mean_ms"]
    shown = json.loads(farm("leaderboard", "--history", "--format", "json", *where).stdout)
    assert [(row["cell"], row["counts"]) for row in shown] == [(A, False), (A, True)]
    text = farm("leaderboard", "--history", *where).stdout
    assert "measured at (UTC)" in text and max(map(len, text.splitlines())) <= 120

    compared = farm("compare", A, B, "--seconds", "0.3", "--json", *where)
    figures = json.loads(compared.stdout)
    assert {one["cell"] for one in figures["entrants"].values()} == {A, B}
    for text in ("--seconds", "--margin"):
        assert f"argument {text}" in farm("compare", A, B, text, "0", *where).stderr
    unknown = farm("compare", A, "onestage.op71.fixed.fp32.onnxruntime.cpu", *where)
    assert unknown.returncode == 2 and "no cell" in unknown.stderr and "op17" in unknown.stderr
    alone = farm("compare", A, A, *where)
    assert alone.returncode == 2 and "two or more cells" in alone.stderr
    for wrong, said in (
        (("--only", A), "--again"),
        (("--again", "measure", "--only", "x"), "no cell"),
    ):
        refused = farm("run", *words, *wrong)
        assert refused.returncode == 2 and said in refused.stderr
    assert len(history.read(tmp_path / "r")) == 1, "what was refused changed nothing"
