"""Models are checked before any other work; what is wrong with them is found at its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import needs_packages
from test_scheduler import Scripted

from farm.config.loader import Matrix, load_matrix
from farm.engine.checks import checked_plan, log_notes
from farm.engine.order import TRIES
from farm.engine.status import Outcome, StepStatus
from farm.errors import InputError, InputErrors
from farm.plan import factory, make_plan
from farm.plan.steps import Plan
from farm.store import Failure, Record, Store

pytestmark = needs_packages

MATRIX = """\
name: own
models:
  a: {config: a.py, checkpoint: a.pth}
  b:
    config: b.py
    checkpoint: b.pth
    labels: [x]
opsets: [17]
shapes: {fixed: {opt: 160x160}}
runtimes: [openvino]
dataset:
  type: coco
  images: images
  annotations: a.json
"""


@dataclass
class Checks(Scripted):
    """An executor of checks. found: how the check of a model ends, by label; DONE with these notes
    where nothing is said."""

    store: Store = field(default_factory=lambda: Store("nowhere"))
    found: Mapping[str, Outcome] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def wait(self) -> Outcome:
        step = self.running.pop(0)
        if step.label in self.found:
            outcome = self.found[step.label]
            return Outcome(step.key, outcome.status, outcome.reason)
        figures = {"classes": [step.label], "masks": False, "pipeline": "[]", "notes": self.notes}
        record = Record("check", step.key, step.label, figures, {}, {}, 1.0, 1, {"host": "h"})
        self.store.publish(self.store.work_folder(step.key), record)
        return Outcome(step.key, StepStatus.DONE)


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(b"1")
    (tmp_path / "a.json").write_text("{}")
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(f"model = {name!r}\n")
        (tmp_path / f"{name}.pth").write_text(name)
    (tmp_path / "m.yaml").write_text(MATRIX)
    return load_matrix(tmp_path / "m.yaml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def checked(
    matrix: Matrix, executor: Checks, retry_failed: bool = False, **ends: Outcome
) -> tuple[Plan, list[str]]:
    executor.found = ends
    plan = checked_plan(matrix, executor.store, lambda: executor, retry_failed, stages=["check"])
    return plan, executor.taken


def end(status: StepStatus, reason: str) -> Outcome:
    return Outcome("", status, reason)


def test_every_model_is_checked_once(
    matrix: Matrix, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, taken = checked(matrix, Checks(store=store))
    assert "Checking 2 models: " in capsys.readouterr().err
    assert plan.unchecked == () and sorted(taken) == sorted(s.key for s in plan.of_stage("check"))
    assert not any(cell.refused for cell in plan.cells)
    assert checked(matrix, Checks(store=store))[1] == []


def test_a_check_without_a_result_costs_the_cells_of_its_model_alone(
    matrix: Matrix, store: Store
) -> None:
    executor = Checks(store=store)
    plan, taken = checked(matrix, executor, a=end(StepStatus.TRANSIENT, "too slow"))
    assert {one.cell.model: one.refused for one in plan.cells} == {"a": "too slow", "b": None}
    assert len(taken) == TRIES + 1  # a is not begun again by the plan that follows
    assert len(checked(matrix, Checks(store=store))[1]) == 1  # the next run tries it


def test_a_recorded_failure_is_checked_again_only_when_asked(
    matrix: Matrix, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {step.label: step for step in make_plan(matrix).of_stage("check")}["a"]
    store.record_failure(Failure("check", first.key, "a", "no such layer"), None)
    plan, taken = checked(matrix, Checks(store=store))
    assert {one.cell.model: one.refused for one in plan.cells}["a"] == "no such layer"
    assert first.key not in taken
    assert "Checking 1 model: " in capsys.readouterr().err
    assert first.key in checked(matrix, Checks(store=store), retry_failed=True)[1]


def path_of(matrix: Matrix, name: str) -> str:
    return str(matrix.folder / name)


@pytest.mark.parametrize(
    ("file", "line"),
    [("b.py", 5), ("b.pth", 6), ("labels", 7), ("images", 13), ("a.json", 14), ("else", 4)],
)
def test_wrong_input_is_named_at_the_line_of_its_file(
    matrix: Matrix, store: Store, file: str, line: int
) -> None:
    reason = f"{file if file == 'labels' else path_of(matrix, file)}: is wrong"
    with pytest.raises(InputError, match="is wrong") as error:
        checked(matrix, Checks(store=store), b=end(StepStatus.INVALID_INPUT, reason))
    assert error.value.where == f"{matrix.document.path}:{line}"


def test_wrong_inputs_of_several_models_are_named_together(matrix: Matrix, store: Store) -> None:
    bad = {name: end(StepStatus.INVALID_INPUT, f"{name} is wrong") for name in "ab"}
    with pytest.raises(InputErrors) as error:
        checked(matrix, Checks(store=store), **bad)
    assert [one.message for one in error.value.errors] == ["a is wrong", "b is wrong"]


def test_a_missing_package_is_named_before_any_check(
    matrix: Matrix, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Checks(store=store)
    monkeypatch.setattr(factory, "toolchain", lambda names: (("onnx", "absent"),))
    with pytest.raises(InputError, match="onnx not installed"):
        checked_plan(matrix, store, lambda: executor, retry_failed=False)
    assert executor.taken == []


def test_notes_are_shown_once(
    matrix: Matrix, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, _ = checked(matrix, Checks(store=store, notes=["7 boxes are empty"]))
    capsys.readouterr()
    log_notes(plan, store)
    assert capsys.readouterr().err == "Note: 7 boxes are empty\n"
