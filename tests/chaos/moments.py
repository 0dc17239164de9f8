"""When a fault comes: at a step's start or end, after a time, or while no driver runs."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chaos.steps import Event

What = Literal["start", "end", "time", "between"]


@dataclass(frozen=True)
class Moment:
    """A moment after the fault before, or after the start of the run.

    count: of starts or ends of steps, of this stage (empty: of any). share: in place of a count,
    the share of the steps that are left then. seconds: where what is `time`.
    """

    what: What
    stage: str = ""
    count: int = 0
    share: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.what == "between":
            return "before the next run"
        if self.what == "time":
            return f"after {self.seconds:.1f} s"
        if self.count:
            return f"at {self.what} {self.count} of {self.stage or 'any step'}"
        return f"at {self.what} of {self.share:.0%} of the rest"


def drawn(rng: random.Random, left: int, between: bool) -> Moment:
    """Draw a moment.

    left: how many faults come, with this one. between: it may come while no driver runs.
    """
    kind = rng.random()
    if between and kind < 0.25:
        return Moment("between")
    if kind < 0.35:
        return Moment("time", seconds=rng.uniform(0.2, 4))
    share = min(0.9, rng.uniform(0, 1.6 / left))
    return Moment("start" if kind < 0.7 else "end", share=share)


class Countdown:
    """Waits for a moment, from now on. steps: how many are left."""

    def __init__(self, moment: Moment, steps: int) -> None:
        self._moment, self._until = moment, time.monotonic() + moment.seconds
        self._count, self._seen = moment.count or max(1, round(moment.share * steps)), 0

    def is_over(self, events: Sequence[Event]) -> bool:
        """Return whether the moment has come, with these events."""
        moment = self._moment
        if moment.what == "time":
            return time.monotonic() >= self._until
        for event in events:
            self._seen += event.what == moment.what and moment.stage in ("", event.stage)
        return moment.what in ("start", "end") and self._seen >= self._count
