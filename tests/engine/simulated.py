"""A cluster with a clock of its own: steps take their time without anybody waiting for it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from farm.engine.cluster.placing import Places, Task
from farm.engine.cluster.reports import Node
from farm.engine.estimates import Estimate, Estimates
from farm.engine.scheduler import Outcome, StepStatus, Unwatched, run_steps
from farm.plan.machines.placement import Machine, step_unsupported
from farm.plan.steps import Needs, Step
from farm.specs import Gpu, Target
from farm.store import Store

CPU = "a processor"


def node(
    name: str,
    cpus: int = 4,
    gpu: str | None = None,
    gpus: int = 1,
    gpu_kinds: tuple[Gpu, ...] = (),
    **more: Any,
) -> Node:
    kinds = (gpu,) if gpu else ()
    count = gpus if gpu else 0
    return Node(name, Machine(name, CPU, {}, gpu_kinds, kinds, count, cpus, **more))


@dataclass
class Work:
    """Steps with known durations in seconds; the graph of a sweep."""

    steps: dict[str, Step] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(
        self, key: str, seconds: float, *parents: str, stage: str = "export", **needs: Any
    ) -> str:
        on_cpu = needs.get("exclusive") and not needs.get("accelerator")
        target = Target("cpu", CPU) if on_cpu else None
        inputs: Any = SimpleNamespace(model=SimpleNamespace(name=key), target=target)
        self.steps[key] = Step(stage, key, key, inputs, (), parents, Needs(**needs), "")
        self.seconds[key] = seconds
        return key

    def estimates(self) -> Estimates:
        """What is known of steps that have been run before."""
        known = {
            f"{step.stage}/{key}": Estimate(self.seconds[key], 0)
            for key, step in self.steps.items()
        }
        return Estimates(known)

    def bound(self, nodes: Sequence[Node]) -> float:
        """The least time in which these nodes could do it: the longest chain of steps; and for each
        resource its work, which begins after the shortest chain before a step that needs it."""
        before, after = dict[str, float](), dict[str, float](dict.fromkeys(self.steps, 0.0))
        for key, step in self.steps.items():
            ends = (before[parent] + self.seconds[parent] for parent in step.parents)
            before[key] = max(ends, default=0.0)
        for key in reversed([*self.steps]):
            for parent in self.steps[key].parents:
                after[parent] = max(after[parent], after[key] + self.seconds[key])
        chains = (before[key] + self.seconds[key] + after[key] for key in self.steps)
        resources = [(None, nodes), *((kind, _with(kind, nodes)) for kind in self._kinds())]
        return max(*chains, *(self._work(kind, able, before, after) for kind, able in resources))

    def _kinds(self) -> set[str]:
        return {step.needs.accelerator for step in self.steps.values() if step.needs.accelerator}

    def _work(
        self,
        kind: str | None,
        able: Sequence[Node],
        before: Mapping[str, float],
        after: Mapping[str, float],
    ) -> float:
        """The seconds that all cores, or all GPUs of a kind, take for their work."""
        total = 0.0
        own = [key for key, step in self.steps.items() if kind in (None, step.needs.accelerator)]
        for key in own:
            needs = self.steps[key].needs
            if kind:
                share = min(one.machine.gpu_count for one in able) if needs.exclusive else 1
            else:
                places = _with(needs.accelerator, able)
                share = min(x.machine.cpus for x in places) if needs.exclusive else needs.cpus
            total += self.seconds[key] * share
        each = (one.machine.gpu_count if kind else one.machine.cpus for one in able)
        head, tail = min(before[key] for key in own), min(after[key] for key in own)
        return head + total / sum(each) + tail


def _with(kind: str | None, nodes: Sequence[Node]) -> list[Node]:
    return [one for one in nodes if kind is None or kind in (one.machine.accelerators or ())]


@dataclass
class Cluster:
    """An executor whose steps end when its own clock says so.

    joins: nodes by the time at which they join. log: when each step began and where.
    """

    nodes: tuple[Node, ...]
    seconds: Mapping[str, float]
    joins: list[tuple[float, Node]] = field(default_factory=list)
    now: float = 0.0
    log: dict[str, tuple[float, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = Places()
        self.running: list[tuple[float, int, Task]] = []

    def admit(self, steps: Iterable[Step], estimates: Estimates) -> Mapping[str, str]:
        self.places.expect(steps, estimates)
        return {}

    def forget(self, step: Step) -> None:
        self.places.forget(step)

    def take(self, step: Step) -> bool:
        able = [one for one in self.nodes if step_unsupported(step, one.machine) is None]
        if (task := self.places.choose(step, able, self.nodes)) is None:
            return False
        self.places.add(task)
        self.log[step.key] = self.now, task.node.id
        end = self.now + self.seconds[step.key]
        heapq.heappush(self.running, (end, len(self.log), task))
        return True

    def wait(self) -> Outcome | None:
        if self.joins and self.joins[0][0] <= self.running[0][0]:
            self.now, joined = self.joins.pop(0)
            self.nodes = (*self.nodes, joined)
            return None
        self.now, _, task = heapq.heappop(self.running)
        self.places.remove(task)
        seconds = self.seconds[task.step.key]
        return Outcome(task.step.key, StepStatus.DONE, seconds=seconds, memory_bytes=1 << 30)

    def stop(self) -> None: ...


def run(
    work: Work,
    nodes: Sequence[Node],
    folder: Path,
    estimates: Estimates | None = None,
    joins: Sequence[tuple[float, Node]] = (),
) -> Cluster:
    """Run all steps by the farm's own scheduler; return the cluster afterwards."""
    estimates = estimates or work.estimates()
    cluster = Cluster(tuple(nodes), work.seconds, list(joins))
    outcomes = run_steps(
        work.steps, Store(folder), lambda: cluster, Unwatched(), estimates=estimates
    )
    assert {one.status for one in outcomes.values()} == {StepStatus.DONE}
    return cluster
