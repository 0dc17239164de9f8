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
        self._waited = False
        self._put_off: list[tuple[float, Step]] = []

    def add(self, step: Step) -> None:
        """Add a step to the end of its queue."""
        self._queues.setdefault(_kind(step), deque()).append(step)

    def offered(self) -> Iterator[Step]:
        """Yield the first step of each queue until it is empty or full; steps that need a node for
        themselves come last. Each has to be taken, put off, or its queue be declared full."""
        self._full.clear()
        now = time.monotonic()
        for due, step in self._put_off[:]:
            if due <= now:
                self._put_off.remove((due, step))
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
        """Offer the step that was offered later again."""
        self.take(step)
        self._put_off.append((time.monotonic() + _PUT_OFF_S, step))

    def withdraw(self, step: Step) -> None:
        """Remove the step wherever it is: it is not ready any more."""
        queue = self._queues.get(_kind(step), deque())
        if step in queue:
            queue.remove(step)
        self._put_off = [one for one in self._put_off if one[1] is not step]

    def wait_for_others(self) -> None:
        """Sleep until a step that was put off is due.

        Raises:
            RuntimeError: there is none, so that nothing can go on.
        """
        if not self._put_off:
            ready = (step for queue in self._queues.values() for step in queue)
            waiting = ", ".join(f"{step.stage} {step.label}" for step in ready)
            raise RuntimeError(f"no step can go on: no executor takes {waiting or 'any'}")
        if not self._waited:
            log.info("Another sweep is running steps of this one; waiting for it.")
        self._waited = True
        time.sleep(max(0.0, min(due for due, _ in self._put_off) - time.monotonic()))


def _kind(step: Step) -> Hashable:
    return step.needs, getattr(step.inputs, "target", None)


def _exclusive_last(item: tuple[Hashable, deque[Step]]) -> bool:
    _, queue = item
    return bool(queue) and queue[0].needs.exclusive
