"""What a task asks Ray for, and why one has ended without an outcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engine.simulated import node
from test_scheduler import step

pytest.importorskip("ray")

from ray import exceptions

from farm.engine.cluster import reports, tasks
from farm.engine.cluster.placing import Task
from farm.engine.cluster.tasks import NodeGone, Submit, why_lost
from farm.engine.workers.limits import Limit, Limits
from farm.failures import FailureKind
from farm.plan.steps import Needs
from farm.specs import Environment
from farm.store import Store

MIB = 1 << 20


def submitted(
    task: Task, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], str, Limit]:
    """The options of a task, its node, and the limit of its step."""
    asked: list[Any] = []
    submit = Submit(Store(folder), Limits(seconds={"export": 7.0}))

    def call(options: dict[str, Any], node: str) -> Any:
        return SimpleNamespace(remote=lambda *given: asked.extend((options, node, given)))

    monkeypatch.setattr(submit, "_call", call)
    submit(task)
    options, node, (of, address, limit, known) = asked
    assert (of, address, known) == (task.step, str(folder), {})
    return options, node, limit


@pytest.mark.parametrize(
    ("needs", "gpus", "memory", "expected", "share"),
    [
        (Needs(), 0.0, 64 * MIB, {"num_cpus": 1, "memory": 64 * MIB}, 1.0),
        (Needs(cpus=3), 0.0, 200 * MIB, {"num_cpus": 3, "memory": 192 * MIB}, 1.0),
        (Needs(exclusive=True), 0.0, 0, {"num_cpus": 4, "memory": 0}, 1.0),
        (Needs(accelerator="A"), 0.25, 0,
         {"num_cpus": 1, "memory": 0, "num_gpus": 0.25, "accelerator_type": "A"}, 0.25),
    ],
)  # fmt: skip
def test_a_task_asks_for_what_its_step_needs(
    needs: Needs, gpus: float, memory: int, expected: dict[str, Any], share: float,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    own = node("n", gpu="A")
    task = Task(step("a", needs=needs), own, memory, gpus)
    options, place, limit = submitted(task, tmp_path, monkeypatch)
    assert options == {**expected, "max_retries": 0} and place == own.id
    assert limit.seconds == 7.0 and limit.gpu_share == share


def test_a_step_with_an_image_of_its_own_runs_in_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(step("a"), environment=Environment("openvino@x", image="registry/x:1"))
    options, _, _ = submitted(Task(own, node("n"), 0, 0.0), tmp_path, monkeypatch)
    assert options["runtime_env"] == {"image_uri": "registry/x:1"}
    own = replace(step("a"), environment=Environment("openvino@x", interpreter="/x"))
    assert "runtime_env" not in submitted(Task(own, node("n"), 0, 0.0), tmp_path, monkeypatch)[0]


def test_tasks_that_ask_for_the_same_on_a_node_are_one_call(tmp_path: Path) -> None:
    submit = Submit(Store(tmp_path), Limits())
    options = {"num_cpus": 1, "memory": 0}
    first = submit._call(options, "a" * 56)
    assert submit._call(dict(reversed(options.items())), "a" * 56) is first
    assert submit._call(options, "b" * 56) is not first
    assert submit._call({**options, "memory": MIB}, "a" * 56) is not first


def test_a_task_waits_for_no_other_node_and_a_report_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its own is gone it fails at once."""
    asked = SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda *_: options))
    monkeypatch.setattr(tasks, "_supervise", asked)
    monkeypatch.setattr(reports, "_report", asked)
    call = Submit(Store(tmp_path), Limits())._call({"memory": MIB}, "a" * 56)
    report = reports.request_report("a" * 56, [], "token")
    assert call.remote()["memory"] == MIB and report["max_retries"] == 0
    for options in (call.remote(), report):
        place = options["scheduling_strategy"]
        assert (place.node_id, place.soft) == ("a" * 56, False)


@pytest.mark.parametrize(
    ("error", "why", "kind"),
    [
        (exceptions.OutOfMemoryError("x"), "Ray ended it, since memory ran out on its node",
         FailureKind.OOM),
        (NodeGone("its node is gone"), "its node is gone", FailureKind.NODE_LOST),
        (exceptions.WorkerCrashedError(), "the process that supervised it was killed",
         FailureKind.NODE_LOST),
        (ValueError("one\ntwo"), "ValueError: one", FailureKind.NODE_LOST),
    ],
)  # fmt: skip
def test_a_task_without_an_outcome_says_why(error: Exception, why: str, kind: FailureKind) -> None:
    assert why_lost(error) == (why, kind)
