"""Short steps that run in turn as one task, since handing over each would take longer than it runs.

How long a step takes is learned from those of its kind that have ended before it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.engine.nodes import Node
    from farm.plan.steps import Needs, Step
    from farm.specs import Environment

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
