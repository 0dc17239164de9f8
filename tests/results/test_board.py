"""The leaderboard while a sweep runs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from conftest import wait_for
from rows import row

from farm.config.schema import VerifySpec
from farm.engine.status import Outcome, StepStatus
from farm.plan.steps import Needs, Plan, PlannedCell, Step
from farm.results import leaderboard
from farm.results.leaderboard import board
from farm.results.leaderboard.board import Board, LiveRows
from farm.specs import Cell
from farm.store import Store


def states(results: Path) -> dict[str, str]:
    return {one["cell"]: one["status"] for one in leaderboard.of_sweep(results, "s")}


def test_rows_are_on_the_disk_as_they_become_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[int]()
    monkeypatch.setattr(board, "_PAUSE_S", 0.0)
    monkeypatch.setattr(board, "_SHARE", 0)
    made = Board(tmp_path, "s", lambda: written.append(1))
    made.write()
    assert not written  # nothing is known
    made.put_all(row(name, status="pending", reason="") for name in "xy")
    made.put_all([row("y")])
    assert states(tmp_path) == {"x": "pending", "y": "ok"}
    made.put_all([row("x", status="failed", failed_stage="build", reason="why")])
    assert states(tmp_path) == {"x": "failed", "y": "ok"} and len(written) == 3
    made.put_all([])
    made.write()
    assert len(written) == 3  # nothing is new


def test_rows_that_come_fast_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "_PAUSE_S", 1000.0)
    made = Board(tmp_path, "s")
    made.put_all([row("w")])
    assert set(states(tmp_path)) == {"w"}  # at once
    for name in "xyz":
        made.put_all([row(name)])
    assert set(states(tmp_path)) == {"w"} and made.wait_s() > 900
    made.write()
    assert set(states(tmp_path)) == {"w", "x", "y", "z"}


def test_writes_take_a_fiftieth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "_PAUSE_S", 0.0)
    made = Board(tmp_path, "s")
    began = time.monotonic()
    made.put_all([row("x")])
    assert 0 < made.wait_s() <= 50 * (time.monotonic() - began)


def test_a_disk_that_is_full_is_a_warning_and_the_rows_are_written_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "leaderboard").write_text("in the way")
    made = Board(tmp_path, "s")
    made.put_all([row("x")])
    made.write()
    assert "the leaderboard cannot be written yet" in capsys.readouterr().err
    (tmp_path / "leaderboard").unlink()
    made.write()
    assert states(tmp_path) == {"x": "ok"}


def test_a_board_that_is_closed_replaces_nothing(tmp_path: Path) -> None:
    """As the thread does that was still making rows when the sweep ended."""
    made = Board(tmp_path, "s")
    made.put_all([row("x", status="pending", reason="")])
    made.close()
    leaderboard.write([row("x")], tmp_path, "s")
    made.put_all([row("x", status="pending", reason="")])
    made.write()
    assert states(tmp_path) == {"x": "ok"}


def step(key: str, stage: str) -> Step:
    return Step(stage, key, key, None, (), (), Needs(), "")  # type: ignore[arg-type]


def live_rows(folder: Path) -> tuple[LiveRows, list[Step]]:
    """The watcher of two cells of two steps each."""
    cells = [Cell(name, 17, "fixed", "graph", "fp32", "onnxruntime", None, "cpu") for name in "xy"]
    own = {
        cell: {stage: f"{n}{i}".ljust(64, "0") for i, stage in enumerate(("export", "build"))}
        for n, cell in enumerate(cells)
    }
    plan = Plan("s", tuple(PlannedCell(cell, keys) for cell, keys in own.items()), {}, (), ())
    steps = [step(key, stage) for keys in own.values() for stage, key in keys.items()]
    return LiveRows(plan, steps, Store(folder / "store"), VerifySpec(), Board(folder, "s")), steps


def test_a_cell_has_ended_with_its_last_step(tmp_path: Path) -> None:
    live, steps = live_rows(tmp_path)
    for number, known in ((2, []), (0, []), (3, [1]), (1, [1, 0])):
        live.ended(steps[number], Outcome(steps[number].key, StepStatus.DONE))
        assert [*live._known] == known


def test_a_row_is_written_seconds_after_its_last_step_though_no_other_step_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread of its own: nobody calls the watcher again."""
    monkeypatch.setattr(board, "_PAUSE_S", 0.05)
    monkeypatch.setattr(board, "_SHARE", 0)
    live, steps = live_rows(tmp_path)
    with live as watcher:
        wait_for(lambda: set(states(tmp_path).values()) == {"pending"} and states(tmp_path))
        watcher.ended(steps[0], Outcome(steps[0].key, StepStatus.DONE))
        watcher.ended(steps[1], Outcome(steps[1].key, StepStatus.FAILED, "no operator"))
        wait_for(lambda: "failed" in states(tmp_path).values())
    reasons = [one["reason"] for one in leaderboard.of_sweep(tmp_path, "s")]
    assert "no operator" in reasons and not live._thread.is_alive()
    assert live._thread.daemon  # one that hangs does not keep the process from ending


def test_rows_that_cannot_be_made_now_are_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(board, "_PAUSE_S", 0.02)
    calls = list[int]()

    def unreachable(*_: object) -> list[dict[str, object]]:
        calls.append(1)
        if len(calls) < 4:
            raise OSError("the service does not answer")
        return [row("x")]

    monkeypatch.setattr(board, "make_rows", unreachable)
    cell = PlannedCell(Cell("m", 17, "fixed", "graph", "fp32", "torch", None, "cpu"), {})
    plan = Plan("s", (cell,), {}, (), ())
    with LiveRows(plan, [], Store(tmp_path), VerifySpec(), Board(tmp_path, "s")):
        wait_for(lambda: states(tmp_path) == {"x": "ok"})
    assert capsys.readouterr().err.count("is not up to date") == 1
