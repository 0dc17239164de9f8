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

    count: of starts or ends of steps, of this stage (empty: of any). seconds: where what is `time`.
    """

    what: What
    stage: str = ""
    count: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.what == "between":
            return "before the next run"
        if self.what == "time":
            return f"after {self.seconds:.1f} s"
        return f"at {self.what} {self.count} of {self.stage or 'any step'}"


def drawn(rng: random.Random, first: bool, between: bool) -> Moment:
    """Draw a moment. first: of the first fault. between: it may come while no driver runs."""
    kind = rng.random()
    if between and kind < 0.25:
        return Moment("between")
    if kind < 0.4:
        return Moment("time", seconds=rng.uniform(0.2, 6 if first else 1.5))
    what: What = "start" if kind < 0.75 else "end"
    if rng.random() < 0.6:
        return Moment(what, "", rng.randint(1, 16 if first else 8))
    return Moment(what, rng.choice([*_EARLY, *_LATE] if first else _LATE), rng.randint(1, 3))


class Countdown:
    """Waits for a moment, from now on."""

    def __init__(self, moment: Moment) -> None:
        self._moment, self._until = moment, time.monotonic() + moment.seconds
        self._seen = 0

    def is_over(self, events: Sequence[Event]) -> bool:
        """Return whether the moment has come, with these events."""
        moment = self._moment
        if moment.what == "time":
            return time.monotonic() >= self._until
        for event in events:
            self._seen += event.what == moment.what and moment.stage in ("", event.stage)
        return moment.what in ("start", "end") and self._seen >= moment.count
