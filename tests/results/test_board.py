"""The leaderboard while a sweep runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from rows import row

from farm.results import leaderboard
from farm.results.leaderboard import board
from farm.results.leaderboard.board import Board


def states(results: Path) -> dict[str, str]:
    return {one["cell"]: one["status"] for one in leaderboard.of_sweep(results, "s")}


def test_rows_are_on_the_disk_as_they_become_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[int]()
    monkeypatch.setattr(board, "_PAUSE_S", 0.0)
    monkeypatch.setattr(board, "_SHARE", 0)
    pending = [row(name, status="pending", reason="") for name in "xy"]
    made = Board(tmp_path, "s", pending, lambda: written.append(1))
    made.put(row("y"))
    assert states(tmp_path) == {"x": "pending", "y": "ok"}
    made.put(row("x", status="failed", failed_stage="build", reason="why"))
    assert states(tmp_path) == {"x": "failed", "y": "ok"} and len(written) == 2
    made.write()
    assert len(written) == 2  # nothing is new


def test_rows_that_come_fast_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "_PAUSE_S", 1000.0)
    made = Board(tmp_path, "s", [])
    for name in "xyz":
        made.put(row(name))
    assert states(tmp_path) == {}
    made.write()
    assert set(states(tmp_path)) == {"x", "y", "z"}
    made.put(row("w"))
    assert "w" not in states(tmp_path)


def test_a_disk_that_is_full_is_a_warning_and_the_rows_are_written_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leaderboard").write_text("in the way")
    made = Board(tmp_path, "s", [])
    made.put(row("x"))
    made.write()
    assert "the leaderboard cannot be written yet" in capsys.readouterr().err
    (tmp_path / "leaderboard").unlink()
    made.write()
    assert states(tmp_path) == {"x": "ok"}
