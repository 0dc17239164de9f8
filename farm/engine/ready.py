"""The steps that are ready to run, by what they need of a node."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.plan.steps import Step

log = logging.getLogger(__name__)

_PUT_OFF_S = 1.0
"""After how many seconds a step that another sweep is running is offered again."""


class ReadySteps:
    """Queues of ready steps, one for each kind of node that they need."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[Step]] = {}
        self._full = set[Hashable]()
        self._others, self._waited = set[str](), False
        self._put_off: list[tuple[float, Step]] = []

    def add(self, step: Step, pause_s: float = 0.0) -> None:
        """Add a step to the end of its queue, at once or in so many seconds."""
        if pause_s:
            self._put_off.append((time.monotonic() + pause_s, step))
            return
        self._queues.setdefault(_kind(step), deque()).append(step)

    def offered(self) -> Iterator[Step]:
        """Yield the first step of each queue until it is empty or full; steps that need a node for
        themselves come last. Each has to be taken, put off, or its queue be declared full."""
        self._full.clear()
        now = time.monotonic()
        for due, step in self._put_off[:]:
            if due <= now:
                self._put_off.remove((due, step))
                self._others.discard(step.key)
                self.add(step)
        for kind, queue in sorted(self._queues.items(), key=_exclusive_last):
            while queue and kind not in self._full:
                yield queue[0]

    def take(self, step: Step) -> None:
        """Remove the step that was offered."""
        self._queues[_kind(step)].popleft()

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
        queue = self._queues.get(_kind(step), deque())
        if step in queue:
            queue.remove(step)
        self._put_off = [one for one in self._put_off if one[1] is not step]

    def steps(self) -> list[Step]:
        """Return the steps that could be offered now."""
        return [step for queue in self._queues.values() for step in queue]

    def sleep(self) -> bool:
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


def _exclusive_last(item: tuple[Hashable, deque[Step]]) -> bool:
    _, queue = item
    return bool(queue) and queue[0].needs.exclusive
