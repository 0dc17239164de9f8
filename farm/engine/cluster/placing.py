"""Which node a step goes to: what runs where, and what is still to be done where."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.engine.estimates import Estimates

if TYPE_CHECKING:
    from farm.engine.cluster.reports import Node
    from farm.plan.steps import Step

_QUEUE = 2
"""How many more short steps than it has cores a node gets: so its cores need not wait for them."""

_SHORT_S = 0.5
"""How long a step is expected to run at most that may wait for a core on a node, in seconds."""

_PARTS, _DIGITS = 100, 2
"""A GPU is parted into hundredths, so that most tasks ask Ray for the same."""

_LEAST = 0.1
"""The least part of a GPU: more steps at once would only wait for each other there."""

_NOTHING_S = 1e-6
"""Less than this is what rounding has left of nothing, in seconds."""


@dataclass(frozen=True)
class Task:
    """A step on a node. memory_bytes: what it should find free there. gpus: how many of the node's
    GPUs it gets: none, a part of one, or one. gpu: the number of that GPU, as Ray should choose."""

    step: Step
    node: Node
    memory_bytes: int
    gpus: float
    gpu: int = 0


@dataclass
class _Load:
    """What runs on a node. gpus: how much of each GPU is given, by its number."""

    tasks: int = 0
    cpus: int = 0
    memory_bytes: int = 0
    exclusive: bool = False
    gpus: dict[int, float] = field(default_factory=dict)

    def change(self, task: Task, by: int) -> None:
        needs = task.step.needs
        self.tasks += by
        self.cpus += by * needs.cpus
        self.memory_bytes += by * task.memory_bytes
        self.exclusive = needs.exclusive and by > 0
        if task.gpus:
            self.gpus[task.gpu] = self._given(task.gpu, by * task.gpus)

    def gpu_for(self, part: float, count: float) -> int | None:
        """Return the number of a GPU that has so much left; None where none of `count` has.

        Like Ray, it takes the one that has the least left then: a part is never of two GPUs.
        """
        room = (one for one in range(int(count)) if self._given(one, part) <= 1)
        return max(room, key=self._given, default=None)

    def _given(self, gpu: int, more: float = 0.0) -> float:
        return round(self.gpus.get(gpu, 0.0) + more, _DIGITS)


class Places:
    """The tasks on the nodes of a cluster, and where there is room for another one.

    A step that needs a node for itself goes to one where nothing runs. A step that needs no GPU
    goes to a node with GPUs only if those without would take longer for what remains than that node
    for what needs its GPUs.
    """

    def __init__(self) -> None:
        self._loads: dict[str, _Load] = defaultdict(_Load)
        self.expect((), Estimates())

    def expect(self, steps: Iterable[Step], estimates: Estimates) -> None:
        """Learn which steps are to be run from now on; others are not any more."""
        self._estimates, self._revision = estimates, -1
        self._expected = {step.key: step for step in steps}
        self._demand = _Demand()

    def forget(self, step: Step) -> None:
        """Expect a step no more: it has ended, or will not be run."""
        if self._expected.pop(step.key, None):
            self._demand.remove(step)

    def _estimate(self) -> None:
        """Add up what is expected, if it is not what it was."""
        if self._revision != self._estimates.revision:
            self._revision = self._estimates.revision
            self._demand = _Demand()
            for step in self._expected.values():
                self._demand.add(step, self._estimates.seconds(step))

    def add(self, task: Task) -> None:
        """Note that a task was submitted."""
        self._loads[task.node.id].change(task, 1)

    def remove(self, task: Task) -> None:
        """Note that a task is over."""
        self._loads[task.node.id].change(task, -1)

    def choose(self, step: Step, able: Sequence[Node], nodes: tuple[Node, ...]) -> Task | None:
        """Return a task for the step on the node that suits it best; None if none has room.

        able: the nodes that can run it. nodes: all of them.
        """
        self._estimate()
        self._demand.spread_over(nodes)
        wanted, seconds = self._estimates.memory_bytes(step), self._estimates.seconds(step)
        room = [node for node in able if self._has_room(step, node, wanted, seconds)]
        if not (step.needs.accelerator or step.needs.exclusive or all(map(_has_gpus, able))):
            room = [node for node in room if self._demand.has_time(node, seconds)]
        if not room:
            return None
        node = max(room, key=lambda node: self._suits(step, node))
        most = node.machine.memory_bytes
        memory = 0 if most == math.inf else int(min(wanted, most))
        gpus = self._gpus(step, node)
        gpu = self._loads[node.id].gpu_for(gpus, node.machine.gpu_count)
        return Task(step, node, memory, gpus, gpu or 0)

    def _gpus(self, step: Step, node: Node) -> float:
        """How much of a GPU the step gets: a part where it may share one and its peak is known."""
        if not step.needs.accelerator:
            return 0.0
        peak, memory = self._estimates.gpu_bytes(step), node.machine.gpu_memory_bytes
        if not (step.needs.shares_gpu and peak and memory):
            return 1.0
        return min(1.0, max(_LEAST, math.ceil(_PARTS * peak / memory) / _PARTS))

    def _has_room(self, step: Step, node: Node, wanted: int, seconds: float) -> bool:
        load, machine, needs = self._loads[node.id], node.machine, step.needs
        if not load.tasks:
            return True
        if load.exclusive or needs.exclusive or load.memory_bytes + wanted > machine.memory_bytes:
            return False
        part = self._gpus(step, node)
        if part and load.gpu_for(part, machine.gpu_count) is None:
            return False
        # A step for a free GPU gets the next core, whatever else the node does.
        waits = seconds < _SHORT_S or needs.accelerator
        return load.cpus + needs.cpus <= machine.cpus + (_QUEUE if waits else 0)

    def _suits(self, step: Step, node: Node) -> tuple[bool, float]:
        """The larger, the better: nodes without GPUs for what needs none, and free cores."""
        spared = bool(step.needs.accelerator) or not _has_gpus(node)
        return spared, node.machine.cpus - self._loads[node.id].cpus


def _has_gpus(node: Node) -> bool:
    return node.machine.gpu_count > 0


_Kind = tuple[str | None, bool]
"""The accelerator that steps need, if any, and whether they need a node for themselves."""


class _Demand:
    """The seconds of steps that are still to be done, by what they need."""

    def __init__(self) -> None:
        self._steps: dict[str, tuple[_Kind, float]] = {}
        self._seconds = defaultdict[_Kind, float](float)
        self._nodes: tuple[Node, ...] | None = None
        self._without: list[Node] = []
        self._cores = 0.0
        self._gpus, self._nodes_with = Counter[str](), Counter[str]()

    def add(self, step: Step, seconds: float) -> None:
        kind = step.needs.accelerator, step.needs.exclusive
        self._steps[step.key] = kind, seconds
        self._seconds[kind] += seconds

    def remove(self, step: Step) -> None:
        if step.key in self._steps:
            kind, seconds = self._steps.pop(step.key)
            self._seconds[kind] -= seconds

    def spread_over(self, nodes: tuple[Node, ...]) -> None:
        """Learn which nodes there are."""
        if self._nodes is nodes:
            return
        self._nodes = nodes
        self._without = [node for node in nodes if not _has_gpus(node) and node.machine.cpus]
        self._cores = sum(node.machine.cpus for node in self._without)
        self._gpus, self._nodes_with = Counter[str](), Counter[str]()
        for node in nodes:
            for kind in node.machine.accelerators or ():
                self._gpus[kind] += int(node.machine.gpu_count)
                self._nodes_with[kind] += 1

    def has_time(self, node: Node, seconds: float) -> bool:
        """Return whether a step of so many seconds that needs no GPU may go to the node: it has
        none, or will have done the work for its GPUs before the nodes without GPUs have theirs."""
        if not _has_gpus(node):
            return True
        shared, alone = self._seconds[None, False], self._seconds[None, True]
        others = shared / self._cores + alone / len(self._without) if self._without else 0.0
        own = self._gpu_work_s(node)
        return own < _NOTHING_S or own + seconds < others

    def _gpu_work_s(self, node: Node) -> float:
        """How long a node and those like it take for what needs their GPUs, in seconds."""
        return sum(
            self._seconds[kind, False] / self._gpus[kind]
            + self._seconds[kind, True] / self._nodes_with[kind]
            for kind in node.machine.accelerators or ()
            if self._gpus[kind]
        )
