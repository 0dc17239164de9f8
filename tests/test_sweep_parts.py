"""The parts of a sweep: its exit code, its executor, its lock, and what it publishes."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rows import row

import farm.sweep
from farm.cli.places import locked
from farm.cli.results import Results
from farm.config.loader import Matrix, load_matrix
from farm.engine.executors import Choices, starter
from farm.engine.local import LocalExecutor
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.limits import Limits
from farm.errors import InputError
from farm.interrupts import Interrupted
from farm.plan import make_plan
from farm.plan.steps import Plan
from farm.results import leaderboard
from farm.results.kept.matrices import matrix_path
from farm.results.tracking.follower import Tracker
from farm.specs import ModelFacts
from farm.store import Record, Store
from farm.sweep import Sweep, publish, run_sweep

QUIET = Choices(executor="inline", mlflow=False)
MATRIX = """\
name: own
models: {a: {config: a.py, checkpoint: a.pth}}
opsets: [17]
shapes: {fixed: {opt: 160x160}}
precisions: [fp32, fp16]
runtimes: [openvino]
dataset: {type: coco, images: images, annotations: a.json}
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    (tmp_path / "images").mkdir()
    for name in ("a.py", "a.pth", "images/1.jpg"):
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "m.yaml").write_text(MATRIX)
    return load_matrix(tmp_path / "m.yaml")


@pytest.fixture
def plan(matrix: Matrix) -> Plan:
    return make_plan(matrix, lambda _: ModelFacts(("circle",), False, "[]"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "r" / "store")


@pytest.mark.parametrize(
    ("rows", "interrupted", "code"),
    [
        ([{}, {}], False, 0),
        ([{}, {"status": "failed"}], False, 1),
        ([{}, {"status": "pending"}], False, 1),
        ([{}, {"status": "skipped"}], False, 0),
        ([{"status": "skipped"}, {"status": "failed"}], False, 1),
        ([{"status": "skipped"}, {"status": "skipped"}], False, 1),
        ([{"origin": "1a2b3c4d5e6f r.tar.gz"}], False, 1),
        ([{}], True, 130),
    ],
)
def test_the_exit_code_says_how_this_run_ended(
    plan: Plan, rows: list[dict[str, Any]], interrupted: bool, code: int
) -> None:
    assert Sweep(plan, [row("x", **one) for one in rows], interrupted).exit_code == code


def test_the_executor_starts_at_the_first_call_and_is_stopped_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, stopped = [], []

    class Counted(LocalExecutor):
        def __init__(self, *values: Any, **more: Any) -> None:
            super().__init__(*values, **more)
            made.append(self)

        def stop(self) -> None:
            stopped.append(self)

    monkeypatch.setattr("farm.engine.local.LocalExecutor", Counted)
    with ExitStack() as stack:
        start = starter(store, QUIET, Limits(), stack)
        assert made == []
        assert start() is start() and len(made) == 1 and stopped == []
    assert stopped == made


def test_a_step_of_a_failed_check_is_not_run_again(plan: Plan, store: Store) -> None:
    (check,) = plan.of_stage("check")
    export = plan.of_stage("export")[0]
    assert not farm.sweep._is_open(check, store) and farm.sweep._is_open(export, store)
    figures = {"classes": ["circle"], "masks": False, "pipeline": "[]"}
    record = Record("check", check.key, "a", figures, {}, {}, 1.0, 1, {"host": "h"})
    store.publish(store.work_folder(check.key), record)
    assert farm.sweep._is_open(check, store)


def test_rows_say_which_steps_failed_and_which_were_skipped(
    matrix: Matrix, plan: Plan, store: Store
) -> None:
    keys = {one.cell.precision: one.steps for one in plan.cells}
    shared = keys["fp32"].keys() - {"build", "verify", "evaluate", "measure"}
    outcomes = {
        keys["fp32"]["build"]: (StepStatus.FAILED, "too slow"),
        keys["fp32"]["verify"]: (StepStatus.BLOCKED, "too slow"),
        keys["fp16"]["convert"]: (StepStatus.SKIPPED, "no node"),
    }
    for stage in shared:
        step = plan.steps[keys["fp32"][stage]]
        figures: dict[str, Any] = {"classes": ["circle"], "masks": False, "pipeline": "[]"}
        figures = figures if stage == "check" else {}
        folder = store.work_folder(step.key)
        (folder / "model.onnx").write_text("onnx")
        record = Record(stage, step.key, step.label, figures, {}, {}, 1.0, 1, {"host": "h"})
        store.publish(folder, record)
    results = store.root.parent
    (results / "leaderboard").mkdir()
    ends = {key: Outcome(key, *end) for key, end in outcomes.items()}
    rows = {one["precision"]: one for one in publish(matrix, plan, store, ends, Results(results))}
    assert (rows["fp32"]["status"], rows["fp32"]["failed_stage"]) == ("failed", "build")
    assert rows["fp32"]["reason"] == "too slow"
    assert rows["fp16"]["status"] == "pending"
    assert rows["fp16"]["reason"] == "convert has not run: no node"
    written = {one["precision"]: one["status"] for one in leaderboard.read(results)}
    assert written == {"fp32": "failed", "fp16": "pending"}


def test_mlflow_out_of_reach_is_a_warning_without_its_password(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonesuch://bob:s3cr3t@host")
    rows = [row("x", sweep="s")]
    leaderboard.write(rows, store.root.parent, "s")
    Tracker("s", store.root.parent, store).close(rows)
    said = capsys.readouterr().err
    assert "MLflow at nonesuch://" in said and "could not be written" in said
    assert "The leaderboard is complete" in said and "s3cr3t" not in said


def test_missing_files_end_a_sweep_before_anything_is_written(
    matrix: Matrix, tmp_path: Path
) -> None:
    (tmp_path / "a.pth").unlink()
    with pytest.raises(InputError, match=r"a\.pth does not exist"):
        run_sweep(matrix, Results(tmp_path / "r"), QUIET)
    assert not (tmp_path / "r").exists()


def test_an_interrupted_sweep_keeps_its_rows_and_its_matrix(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted

    monkeypatch.setattr(farm.sweep, "checked_plan", interrupted)
    sweep = run_sweep(matrix, Results(tmp_path / "r"), QUIET)
    assert sweep.exit_code == 130 and {one["status"] for one in sweep.rows} == {"pending"}
    assert len(leaderboard.read(tmp_path / "r")) == len(matrix.cells) == 2
    kept = json.loads(matrix_path(tmp_path / "r", "own").read_text())
    assert (kept["matrix"], kept["text"]) == (str(tmp_path / "m.yaml"), MATRIX)
    assert kept["values"] == matrix.document.written and kept["command"].startswith("farm")


def test_working_folders_of_killed_processes_are_removed_by_the_next_sweep(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "r" / "store" / "tmp" / f"{'a' * 64}.{socket.gethostname()}.0.1"
    stale.mkdir(parents=True)
    monkeypatch.setattr(
        farm.sweep, "checked_plan", lambda *_, **__: (_ for _ in ()).throw(Interrupted)
    )
    run_sweep(matrix, Results(tmp_path / "r"), QUIET)
    assert not stale.exists()


def test_a_sweep_is_locked_and_another_one_is_not(tmp_path: Path) -> None:
    with locked(tmp_path / "r", "s"):
        with pytest.raises(InputError, match="sweep s is already running there"):
            locked(tmp_path / "r", "s").__enter__()
        with locked(tmp_path / "r", "t"):
            pass
    with locked(tmp_path / "r", "s"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("a file")
    with pytest.raises(InputError, match="cannot write here") as error:
        locked(tmp_path / "r", "s").__enter__()
    assert error.value.where == str(tmp_path / "r")


def test_an_executor_has_the_limits_of_the_matrix(store: Store) -> None:
    limits = Limits({"check": 30.0})
    executor = farm.engine.executors._make_executor(store, QUIET, limits)
    assert isinstance(executor, LocalExecutor) and executor._limits == limits
