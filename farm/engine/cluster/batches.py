"""Tasks of steps: which node each goes to, and short steps that run in turn as one task.

Handing over a short step would take longer than it runs. How long a step takes is learned from
those of its kind that have ended before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.plan.placement import step_unsupported

if TYPE_CHECKING:
    from farm.engine.cluster.nodes import Node
    from farm.plan.steps import Needs, Step
    from farm.specs import Environment

# Ray queues tasks that find no free core; a few more than there are cores keep all of them busy.
_QUEUE = 2

SHORT_S = 0.1
"""A step is short if none of the last ones of its kind has taken longer, in seconds."""

_LONGEST_S = 0.25
"""How long a batch is expected to take at most, in seconds."""

_LAST, _LEAST = 8, 4
"""How many steps of a kind are looked at, at most and at least."""


class Durations:
    """How long steps have taken, by their stage and packages."""

    def __init__(self) -> None:
        self._last: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=_LAST))

    def note(self, step: Step, seconds: float) -> None:
        """Note that a step of this kind has taken so many seconds."""
        self._last[_kind(step)].append(seconds)

    def of_short(self, step: Step) -> float | None:
        """Return how many seconds a step is expected to take; None if it may be long."""
        last = self._last[_kind(step)]
        if len(last) < _LEAST or max(last) > SHORT_S:
            return None
        return sum(last) / len(last)


def _kind(step: Step) -> Hashable:
    return step.stage, step.toolchain, step.environment


@dataclass
class Batch:
    """Steps that run in turn, in processes of the same environment, as one task.

    node: where; None where there is only one. steps: those that have not ended yet, by key, in
    their order. seconds: how long all are expected to take.
    """

    node: Node | None
    needs: Needs
    environment: Environment | None
    steps: dict[str, Step] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def node_id(self) -> str | None:
        """Return Ray's name for the node."""
        return self.node.id if self.node else None

    def add(self, step: Step, seconds: float = 0.0) -> None:
        """Append a step that is expected to take so many seconds."""
        self.steps[step.key] = step
        self.seconds += seconds

    def has_room_for(self, step: Step, seconds: float, able: Collection[Node], all_: bool) -> bool:
        """Return whether a step may run behind the others.

        able: the nodes that can run it. all_: whether these are all nodes.
        """
        return (
            self.seconds + seconds <= _LONGEST_S
            and (step.needs, step.environment) == (self.needs, self.environment)
            and (all_ if self.node is None else any(node.id == self.node_id for node in able))
        )


def place(step: Step, able: Sequence[Node], tasks: Sequence[Batch], several: bool) -> Batch | None:
    """Return a task for the step, without it, on a node that has room; None if no node has.

    able: the nodes that can run it. tasks: all that are under way. several: whether the cluster has
    more than one node, so that one has to be named.
    """
    alone = {task.node_id for task in tasks if task.needs.exclusive}
    free = [node for node in able if node.id not in alone]
    shared = [task for task in tasks if not task.needs.exclusive]
    node: Node | None
    if step.needs.exclusive:
        # Submitted only when nothing else runs on the nodes that can run it: otherwise Ray
        # would keep cores idle until the last one of a node is free.
        if not free or any(_any_can_run(task, able) for task in shared):
            return None
        node = free[0]
    elif step.needs.accelerator:
        # Never more steps than GPUs: a step that waits for one would use up its time limit.
        users = [task.node_id for task in tasks if task.needs.accelerator]
        free = [node for node in free if users.count(node.id) < node.machine.gpu_count]
        if not free:
            return None
        node = max(free, key=lambda node: node.machine.cpus)
    else:
        if not free or len(shared) >= sum(node.machine.cpus for node in free) + _QUEUE:
            return None
        node = _roomiest(free, shared) if several else None
    return Batch(node, step.needs, step.environment)


def _any_can_run(batch: Batch, nodes: Sequence[Node]) -> bool:
    """Whether one of the nodes can run a step of the batch."""
    steps = batch.steps.values()
    return any(step_unsupported(step, node.machine) is None for step in steps for node in nodes)


def _roomiest(nodes: Sequence[Node], tasks: Sequence[Batch]) -> Node:
    """The node with the most cores that no task has."""
    used = Counter[str | None]()
    for task in tasks:
        used[task.node_id] += task.needs.cpus
    return max(nodes, key=lambda node: node.machine.cpus - used[node.id])
