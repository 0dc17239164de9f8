"""The executor of a simulated cluster: nodes die at will, and Ray notes what it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from engine.simulated import node
from own_stage import step

pytest.importorskip("ray")

from ray import exceptions

from farm.engine.cluster import executor as module
from farm.engine.cluster.executor import RayExecutor
from farm.engine.cluster.reports import Node
from farm.engine.estimates import Estimates
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.limits import Limits
from farm.errors import ClusterLost, InputError
from farm.plan import Needs, Step
from farm.store import Store

ADDRESS = "host:1"


@dataclass
class Simulated:
    """In place of Ray and of what asks it which nodes are there.

    ends: how the tasks end that are over, by reference. gone: nodes that are. answers: when asked
    for no more. did: what was asked for at the end."""

    known: tuple[Node, ...] = (node("a", cpus=2), node("b"))
    started: bool = True
    settled: bool = True
    answers: bool = True
    ends: dict[str, Any] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    doubted: list[str] = field(default_factory=list)
    did: list[Any] = field(default_factory=list)
    exceptions: Any = exceptions

    def is_initialized(self) -> bool:
        return self.started

    def __iter__(self) -> Any:
        return iter(self.known)

    def learn_for(self, steps: list[Step]) -> None: ...

    def require_cluster(self) -> None: ...

    def are_gone(self, nodes: set[str]) -> set[str]:
        return self.gone & nodes

    def doubt(self, node: str) -> None:
        self.doubted.append(node)

    def close(self) -> bool:
        return self.answers

    def look(self) -> None:
        self.did.append("look")

    def submit(self, task: Any) -> str:
        return f"{task.step.key} on {task.node.id}"

    def wait(self, refs: list[str], num_returns: int, timeout: float) -> Any:
        return [one for one in refs if one in self.ends][:num_returns], []

    def get(self, ref: str) -> Outcome:
        found = self.ends.pop(ref)
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self, ref: str, force: bool) -> None:
        self.did.append((ref, force))


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    found = Simulated()
    monkeypatch.setattr(module, "ray", found)
    monkeypatch.setattr(module, "Nodes", lambda store: found)
    monkeypatch.setattr(module, "Submit", lambda store, limits: found.submit)
    monkeypatch.setattr(module, "connect", lambda address: found.did.append(("join", address)))
    monkeypatch.setattr(module, "disconnect", lambda *how: found.did.append(("leave", *how)))
    monkeypatch.setattr(module.Awaited, "stop", lambda self: found.did.append("no more"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return found


def made(folder: Path, address: str | None = ADDRESS, wait_s: float = 0.0) -> RayExecutor:
    return RayExecutor(Store(folder / "store"), address, Limits(), wait_s)


ONE = step("1", Needs(cpus=2))


def test_a_step_that_was_lost_is_tried_on_another_node_while_there_is_one(
    ray: Simulated, tmp_path: Path
) -> None:
    executor = made(tmp_path)
    executor.admit([ONE], Estimates())
    for where in ("b", "a", "b"):  # b has more cores
        assert executor.take(ONE)
        ray.ends[f"{ONE.key} on {where}"] = exceptions.WorkerCrashedError()
        outcome = executor.wait()
        assert outcome is not None and (outcome.key, outcome.status) == (ONE.key, "transient")
        assert outcome.lost and outcome.kind == "node_lost" and ray.doubted.pop() == where
        assert executor.wait() is None


def test_a_step_for_which_memory_ran_out_is_not_lost(ray: Simulated, tmp_path: Path) -> None:
    executor = made(tmp_path)
    executor.admit([ONE], Estimates())
    executor.take(ONE)
    ray.ends[f"{ONE.key} on b"] = exceptions.OutOfMemoryError("x")
    outcome = executor.wait()
    assert outcome is not None and outcome.kind == "oom" and not outcome.lost


def test_outcomes_come_one_at_a_time_and_of_nodes_that_are_gone_without_ray(
    ray: Simulated, tmp_path: Path
) -> None:
    ray.known = (node("b"),)
    executor, two = made(tmp_path), step("2", Needs(cpus=2))
    executor.admit([ONE, two], Estimates())
    assert executor.take(ONE) and executor.take(two) and not executor.take(step("3"))
    assert executor.wait() is None
    done = Outcome(two.key, StepStatus.DONE)
    ray.ends[f"{two.key} on b"] = done
    assert executor.wait() == done
    ray.gone = {"b"}
    outcome = executor.wait()
    assert outcome is not None and (outcome.reason, outcome.lost) == ("its node is gone", True)
    assert executor.wait() is None
    ray.gone = set()
    assert executor.take(step("3", Needs(cpus=4)))  # nothing runs there any more


def test_the_driver_s_own_node_that_dies_ends_the_sweep(ray: Simulated, tmp_path: Path) -> None:
    executor = made(tmp_path)
    executor.admit([ONE], Estimates())
    executor.take(ONE)
    ray.ends[f"{ONE.key} on b"] = exceptions.LocalRayletDiedError()
    with pytest.raises(ClusterLost):
        executor.wait()


def test_each_node_that_can_run_nothing_is_named_once(
    ray: Simulated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ray.known = (node("head", cpus=0), node("small", cpus=1), node("b"), node("c", cpus=1))
    executor, other = made(tmp_path), step("4", Needs(cpus=3))
    rare = step("5", Needs(accelerator="H100", optional=True))
    for _ in range(2):
        assert [*executor.admit([rare, ONE, other], Estimates())] == [rare.key]
    said = capsys.readouterr().err.splitlines()
    assert said == [f"A node is left out: node {one} has 1 CPUs" for one in ("small", "c")]
    left = executor.admit([rare, ONE, step("6", Needs(cpus=9, optional=True))], Estimates())
    assert [*left] == [rare.key, step("6").key]
    assert left[rare.key].startswith("no node has the H100 that this needs: node head has ")
    with pytest.raises(InputError, match=r"own mine \(it needs a CPU\): node head has 0") as error:
        executor.admit([ONE, step("7", Needs(cpus=9))], Estimates())
    assert error.value.where == f"Ray cluster {ADDRESS}"
    ray.known = ()
    assert executor.admit([ONE], Estimates()) == {}  # none has reported yet


def test_a_step_is_held_where_nodes_may_come_and_all_that_are_there_are_known(
    ray: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Step] = []
    monkeypatch.setattr(module.Awaited, "hold", lambda self, one: held.append(one) or True)
    executor, large = made(tmp_path, wait_s=60.0), step("8", Needs(cpus=9))
    assert executor.admit([large], Estimates()) == {}
    ray.settled = False
    assert not executor.take(large) and held == []
    ray.settled = True
    assert executor.take(large) and held == [large]
    with pytest.raises(InputError):  # nobody starts nodes of a Ray of one's own
        made(tmp_path, None, 60.0).admit([large], Estimates())
    ray.known = (*ray.known, node("large", cpus=9))
    assert executor.take(large) and held == [large]


@dataclass
class Waiting:
    """In place of what asks for nodes: one has come."""

    tasks: tuple[str, ...] = ("asked",)
    news: bool = True
    ends: tuple[Outcome, ...] = (Outcome(ONE.key, StepStatus.WAITING),)

    def has_news(self) -> bool:
        return self.news

    def ended(self, nodes: Simulated, settled: bool) -> tuple[Outcome, ...]:
        return self.ends if settled else ()


def test_the_nodes_are_looked_at_when_one_has_come_for_a_held_step(
    ray: Simulated, tmp_path: Path
) -> None:
    executor: Any = made(tmp_path, wait_s=60.0)
    executor._awaited = Waiting(news=False)
    assert executor.wait() == Waiting.ends[0] and ray.did == []
    executor._awaited = Waiting()
    assert executor.wait() == Waiting.ends[0] and ray.did == ["look"]
    executor._awaited = Waiting(tasks=())
    assert executor.wait() is None


def test_the_end_of_an_executor_that_has_joined_another_s_ray(
    ray: Simulated, tmp_path: Path
) -> None:
    executor = made(tmp_path)
    executor.admit([ONE], Estimates())
    executor.take(ONE)
    for _ in range(2):
        executor.stop()
    assert ray.did == ["no more", (f"{ONE.key} on b", True)]
    ray.answers, silent = False, made(tmp_path)
    silent.admit([ONE], Estimates())
    silent.take(ONE)
    silent.stop()
    assert len(ray.did) == 2


@pytest.mark.parametrize("answers", [True, False])
def test_the_end_of_an_executor_with_a_ray_of_its_own(
    ray: Simulated, answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.started, ray.answers = False, answers
    monkeypatch.setenv("RAY_ADDRESS", "other:2")
    executor, named = made(tmp_path, None), made(tmp_path)
    executor.admit([ONE], Estimates())
    executor.take(ONE)
    for one in (executor, executor, named):
        one.stop()
    ends = [("leave", one, answers) for one in ("other:2", ADDRESS)]
    expected = ["no more", ends[0], "no more", ends[1]] if answers else ends
    assert ray.did == [("join", "other:2"), ("join", ADDRESS), *expected]
