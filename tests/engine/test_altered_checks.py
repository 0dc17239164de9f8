"""What a check has left is compared before a plan is made of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from farm.config.loader import Matrix, load_matrix
from farm.engine.checks import checked_plan
from farm.engine.estimates import Estimates
from farm.engine.executors import Choices
from farm.engine.scheduler import Unwatched
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.limits import Limits
from farm.plan import Plan, make_plan
from farm.plan.content import dependencies
from farm.plan.steps import Step
from farm.store import Record, Store
from farm.store.facts import facts_from
from farm.sweep import _run

MATRIX = """\
name: own
models: {a: {config: a.py, checkpoint: a.pth}}
opsets: [17]
shapes: {fixed: {opt: 160x160}}
runtimes: ["null"]
dataset: {type: synthetic, count: 6}
"""
DIGEST = hashlib.sha256(b"x").hexdigest()
USED = f'["file", "", "{DIGEST}", "a.txt"]\n'


class Executor:
    """Ends each step with a record of it, and notes which steps those were."""

    def __init__(self, store: Store) -> None:
        self.store, self.begun, self.under_way = store, list[str](), list[Step]()

    def admit(self, steps: object, estimates: object) -> dict[str, str]:
        return {}

    def forget(self, step: Step) -> None: ...

    def take(self, step: Step) -> bool:
        self.under_way.append(step)
        return len(self.under_way) == 1 or bool(self.under_way.pop().key == "")

    def wait(self) -> Outcome:
        step = self.under_way.pop()
        self.begun.append(step.stage)
        folder = self.store.work_folder(step.key)
        (folder / "out").write_text("made")
        figures: dict[str, object] = {"latency_p50_ms": 1.0, "throughput_per_s": 1.0}
        if step.stage == "check":
            (folder / dependencies.FILE).write_text(USED)
            figures = {"classes": ["circle"], "masks": False, "pipeline": "[]"}
        made = Record(step.stage, step.key, "a", figures, {}, {}, 1.0, 1, {"host": "h"})
        self.store.publish(folder, made)
        return Outcome(step.key, StepStatus.DONE)

    def stop(self) -> None: ...


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    for name, text in (("a.py", "x = 1\n"), ("a.pth", "x"), ("a.txt", "x"), ("m.yaml", MATRIX)):
        (tmp_path / name).write_text(text)
    return load_matrix(tmp_path / "m.yaml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def swept(matrix: Matrix, store: Store) -> tuple[Plan, list[str]]:
    executor = Executor(store)
    plan = checked_plan(matrix, store, lambda: executor, False, stages=())
    _run(plan, store, lambda: executor, Choices(), Limits(), lambda *_: Unwatched(), Estimates())
    return plan, executor.begun


def test_facts_that_were_altered_are_found_again(
    matrix: Matrix, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = swept(matrix, store)[1]
    assert begun.count("check") == 1 and "measure" in begun
    assert swept(matrix, store)[1] == []
    (check,) = make_plan(matrix, facts_from(store)).of_stage("check")
    used = store.path(check.ref) / dependencies.FILE
    used.write_text(USED.replace(DIGEST, "0" * 64))
    capsys.readouterr()
    assert swept(matrix, store)[1] == ["check"]
    assert f"{dependencies.FILE} is altered; it is made anew" in capsys.readouterr().err
    assert used.read_text() == USED


@pytest.mark.parametrize("stage", ["prepare", "export", "measure"])
def test_what_no_step_will_read_is_made_anew_too(
    stage: str, matrix: Matrix, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, _ = swept(matrix, store)
    step = plan.of_stage(stage)[0]
    (store.path(step.ref) / "out").write_text("edam")
    assert swept(matrix, store)[1] == [stage]
    assert f"{stage} {step.key[:12]}: out is altered; it is made anew" in capsys.readouterr().err
