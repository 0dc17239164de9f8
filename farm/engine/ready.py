"""The steps that are ready to run, by what they need of a node."""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.plan.steps import Step

log = logging.getLogger(__name__)

_PUT_OFF_S = 1.0
"""After how many seconds a step that another sweep is running is offered again."""

_NODE_S = 60.0
"""How long a step waits for a node while nothing runs, in seconds."""

_IDLE_S = 0.1
"""How often a step is offered while nothing runs, in seconds."""

_Entry = tuple[float, int, "Step"]
"""The length of a step's critical path, negative, and which of equal ones became ready first."""


class ReadySteps:
    """Queues of ready steps, one for each kind of node that they need.

    idle_since: since when nothing runs, in seconds of the monotonic clock; None while something
    does.

    Args:
        critical_path_s: Returns the length of a step's critical path; the longest is offered first.
    """

    def __init__(self, critical_path_s: Callable[[Step], float]) -> None:
        self._critical_path_s, self._numbers = critical_path_s, itertools.count()
        self._queues: dict[Hashable, list[_Entry]] = defaultdict(list)
        self._full = set[Hashable]()
        self._others, self._waited = set[str](), False
        self._put_off: list[tuple[float, Step]] = []
        self.idle_since: float | None = None

    def add(self, step: Step, pause_s: float = 0.0) -> None:
        """Add a step, at once or in so many seconds."""
        if pause_s:
            self._put_off.append((time.monotonic() + pause_s, step))
            return
        entry = -self._critical_path_s(step), next(self._numbers), step
        heapq.heappush(self._queues[_kind(step)], entry)

    def reorder(self) -> None:
        """Take notice that critical paths have changed."""
        for queue in self._queues.values():
            queue[:] = [(-self._critical_path_s(step), number, step) for _, number, step in queue]
            heapq.heapify(queue)

    def offered(self) -> Iterator[Step]:
        """Yield the first step of all queues until each is empty or full; steps that need a node
        for themselves come last. Each has to be taken, put off, or its queue be declared full."""
        self._full.clear()
        now = time.monotonic()
        for due, step in self._put_off[:]:
            if due <= now:
                self._put_off.remove((due, step))
                self._others.discard(step.key)
                self.add(step)
        while heads := [
            queue[0] for kind, queue in self._queues.items() if queue and kind not in self._full
        ]:
            yield min(heads, key=_rank)[2]

    def take(self, step: Step) -> None:
        """Remove the step that was offered."""
        heapq.heappop(self._queues[_kind(step)])

    def declare_full(self, step: Step) -> None:
        """Offer no more steps that need the same as this one: there is no room for it."""
        self._full.add(_kind(step))

    def put_off(self, step: Step) -> None:
        """Offer the step that was offered later again, since another sweep is running it."""
        self.take(step)
        self.add(step, _PUT_OFF_S)
        self._others.add(step.key)

    def withdraw(self, step: Step) -> None:
        """Remove the step wherever it is: it is not ready any more."""
        queue = self._queues[_kind(step)]
        queue[:] = [entry for entry in queue if entry[2] is not step]
        heapq.heapify(queue)
        self._put_off = [one for one in self._put_off if one[1] is not step]

    def steps(self) -> list[Step]:
        """Return the steps that could be offered now."""
        return [step for queue in self._queues.values() for _, _, step in sorted(queue)]

    def wait_idly(self) -> list[Step]:
        """Wait, while nothing runs, for other sweeps, for the next try of a step, or for a node.

        Returns the steps for which no node has come in time: they are not ready any more.

        Raises:
            RuntimeError: there is nothing to wait for.
        """
        if self._sleep():
            return []
        ready, now = self.steps(), time.monotonic()
        if not ready:
            raise RuntimeError("no step can go on, and none is ready")
        if self.idle_since is None:
            self.idle_since = now
        if now - self.idle_since < _NODE_S:
            time.sleep(_IDLE_S)
            return []
        for step in ready:
            self.withdraw(step)
        return ready

    def _sleep(self) -> bool:
        """Sleep until a step that comes later is due; return whether there is one."""
        if not self._put_off:
            return False
        if self._others and not self._waited:
            log.info("Another sweep is running steps of this one; waiting for it.")
            self._waited = True
        time.sleep(max(0.0, min(due for due, _ in self._put_off) - time.monotonic()))
        return True


def _kind(step: Step) -> Hashable:
    return step.needs, getattr(step.inputs, "target", None)


def _rank(entry: _Entry) -> tuple[bool, bool, float, int]:
    """The smaller, the earlier: what needs a GPU, which has few nodes to go to, then all others;
    last what needs a node for itself."""
    path, number, step = entry
    return step.needs.exclusive, step.needs.accelerator is None, path, number
