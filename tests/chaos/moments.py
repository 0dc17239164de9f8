"""When a fault comes: at a step's start or end, after a time, or while no driver runs."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chaos.steps import Event

_EARLY = ("check", "prepare", "export", "reference")
_LATE = ("build", "verify", "evaluate", "measure")

What = Literal["start", "end", "time", "between"]


@dataclass(frozen=True)
class Moment:
    """A moment after the fault before, or after the start of the run.

    count: of starts or ends of steps, of this stage (empty: of any). share: where what is `time`,
    of the time that an undisturbed run takes, so that a busy machine sees the same faults.
    """

    what: What
    stage: str = ""
    count: int = 0
    share: float = 0.0

    def __str__(self) -> str:
        if self.what == "between":
            return "before the next run"
        if self.what == "time":
            return f"after {self.share:.0%} of the time"
        return f"at {self.what} {self.count} of {self.stage or 'any step'}"


def drawn(rng: random.Random, first: bool, between: bool) -> Moment:
    """Draw a moment. first: of the first fault. between: it may come while no driver runs."""
    kind = rng.random()
    if between and kind < 0.25:
        return Moment("between")
    if kind < 0.45:
        return Moment("time", share=rng.uniform(0.01, 0.7 if first else 0.3))
    what: What = "start" if kind < 0.75 else "end"
    if rng.random() < 0.5:
        return Moment(what, "", rng.randint(1, 20 if first else 8))
    return Moment(what, rng.choice([*_EARLY, *_LATE] if first else _LATE), rng.randint(1, 3))


class Countdown:
    """Waits for a moment, from now on. seconds: what an undisturbed run takes."""

    def __init__(self, moment: Moment, seconds: float) -> None:
        self._moment, self._until = moment, time.monotonic() + moment.share * seconds
        self._seen = 0

    def is_over(self, events: Sequence[Event]) -> bool:
        """Return whether the moment has come, with these events."""
        moment = self._moment
        if moment.what == "time":
            return time.monotonic() >= self._until
        for event in events:
            self._seen += event.what == moment.what and moment.stage in ("", event.stage)
        return moment.what in ("start", "end") and self._seen >= moment.count
