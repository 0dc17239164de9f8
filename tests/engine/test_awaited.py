"""Steps that wait for nodes which are not there yet, with a Ray that notes what it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from engine.simulated import node
from own_stage import step

pytest.importorskip("ray")

from farm.engine.cluster import awaited as module
from farm.engine.cluster.awaited import Awaited
from farm.engine.cluster.reports import Node
from farm.failures import FailureKind
from farm.plan import Needs

CPU = step("1")
L4 = step("2", Needs(accelerator="L4"))
T4 = step("3", Needs(accelerator="T4"))
WITH_L4 = node("l4", gpu="L4")


@dataclass
class Asked:
    """In place of Ray. tasks: what each asks for. here: those that have a node."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    here: set[int] = field(default_factory=set)
    cancelled: list[int] = field(default_factory=list)

    def options(self, **needed: Any) -> Any:
        self.tasks.append(needed)
        return SimpleNamespace(remote=lambda: len(self.tasks) - 1)

    def wait(self, tasks: list[int], timeout: float) -> tuple[list[int], list[int]]:
        found = [one for one in tasks if one in self.here]
        return found, [one for one in tasks if one not in found]

    def cancel(self, task: int) -> None:
        self.cancelled.append(task)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    found = Asked()
    monkeypatch.setattr(module, "ray", found)
    monkeypatch.setattr(module, "_is_here", found)
    return found


@pytest.mark.parametrize(
    ("needs", "there", "comes"),
    [
        (Needs(cpus=4), node("a"), False),
        (Needs(cpus=5), node("a"), True),
        (Needs(), node("a", gpu="L4"), False),
        (Needs(accelerator="L4"), node("a", gpu="L4"), False),
        (Needs(accelerator="L4", cpus=5), node("a", gpu="L4"), True),
        (Needs(accelerator="L4"), node("a", gpu="L4", gpus=0), True),
        (Needs(accelerator="L4"), node("a", gpu="T4"), True),
    ],
)
def test_another_node_may_come_for_what_has_room_on_none(
    needs: Needs, there: Node, comes: bool
) -> None:
    assert Awaited(60.0).may_come(step("", needs), [there]) is comes
    assert Awaited(60.0).may_come(step("", needs), [there, node("b", cpus=0)]) is comes
    assert not Awaited(0.0).may_come(step("", needs), [there])


def test_one_step_of_a_kind_asks_for_a_node(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    waits, hasty = Awaited(60.0), Awaited(0.0)
    assert [waits.hold(one) for one in (L4, L4, CPU)] == [True, False, True]
    assert waits.tasks == [0, 1]
    gpu = {"num_cpus": 1, "num_gpus": 1, "accelerator_type": "L4"}
    assert asked.tasks == [gpu, {"num_cpus": 1}]
    assert not hasty.hold(L4) and hasty.tasks == []
    assert capsys.readouterr().err.splitlines() == [
        "own mine waits up to 1m00s for a node with L4.",
        "own mine waits up to 1m00s for a node with CPUs.",
    ]


def test_more_nodes_are_asked_for_one_at_a_time(asked: Asked) -> None:
    waits, hasty = Awaited(60.0), Awaited(0.0)
    for _ in range(2):
        waits.ask_for_more(L4)
        hasty.ask_for_more(L4)
    assert len(asked.tasks) == 1 and waits.tasks == []
    asked.here = {0}
    waits.ask_for_more(L4)
    assert len(asked.tasks) == 2
    waits.hold(CPU)
    waits.stop()
    assert sorted(asked.cancelled) == [1, 2] and waits.tasks == []


def ended(waits: Awaited, *nodes: Node, settled: bool = True) -> list[tuple[str, str]]:
    return [(one.key, str(one.status)) for one in waits.ended(nodes, settled)]


def test_a_step_goes_on_when_a_node_can_run_it_and_others_still_wait(asked: Asked) -> None:
    waits = Awaited(600.0)
    for one in (T4, L4):
        waits.hold(one)
    assert ended(waits, node("c")) == [] and not waits.has_news()
    asked.here = {1}
    assert waits.has_news() and not waits.has_news()
    assert ended(waits, node("c"), settled=False) == []
    assert ended(waits, node("c"), WITH_L4) == [(L4.key, "waiting")]
    assert waits.tasks == [0] and asked.cancelled == [1]


def test_a_node_that_came_and_cannot_run_it_ends_the_wait_of_its_kind(asked: Asked) -> None:
    waits = Awaited(600.0)
    odd = step("4", Needs(accelerator="L4"), (("numpy", "0.1"),))
    for one in (odd, T4):
        waits.hold(one)
    asked.here = {0, 1}
    assert waits.has_news()
    first, second = waits.ended([WITH_L4], True)
    assert (first.key, first.status, first.kind) == (odd.key, "transient", FailureKind.NODE_LOST)
    assert first.reason.startswith(
        "no node with L4 came that can run it (waited up to 10m00s): node l4 has numpy"
    )
    assert second.reason.endswith("(waited up to 10m00s): node l4 has L4")
    assert waits.hold(odd) and waits.tasks == [2]
    (again,) = waits.ended([], True)  # at once
    assert again.reason == first.reason and waits.tasks == []


def test_a_step_for_which_no_node_came_in_time_is_given_up(asked: Asked) -> None:
    waits = Awaited(1e-9)
    waits.hold(CPU)
    (outcome,) = waits.ended([node("head", cpus=0)], False)
    assert outcome.status == "transient"
    assert outcome.reason == (
        "no node with a CPU came that can run it (waited up to 0.0s): node head has 0 CPUs"
    )
