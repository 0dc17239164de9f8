"""Run steps one after another, each in a process of its own, as long as there is time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from farm.engine.process import perform_apart
from farm.engine.scheduler import Outcome
from farm.plan import Step
from farm.store import Store
from farm.units import format_seconds

log = logging.getLogger(__name__)

TIME_IS_UP = "the time was up"


@dataclass(frozen=True)
class TimeBudget:
    """The time that a run has, in seconds of `time.monotonic`."""

    began: float
    seconds: float

    @property
    def passed(self) -> float:
        return time.monotonic() - self.began

    @property
    def remaining(self) -> float:
        return self.seconds - self.passed


class LocalExecutor:
    """An executor of `run_steps`. A step that crashes or hangs costs no other.

    A step that comes to `step_s` is late; one that has no time left until the clock's end is not
    begun, or ended, with the status "left".
    """

    def __init__(self, store: Store, clock: TimeBudget, step_s: float) -> None:
        self._store, self._clock, self._step_s = store, clock, step_s
        self._step: Step | None = None

    def admit(self, steps: Iterable[Step]) -> Mapping[str, str]:
        """Admit every step: which ones can run here was decided when they were planned."""
        return {}

    def take(self, step: Step) -> bool:
        """Take the step unless one is under way."""
        if self._step is not None:
            return False
        self._step = step
        return True

    def wait(self) -> Outcome:
        """Run the step that was taken."""
        assert self._step is not None
        step, self._step = self._step, None
        limit = min(self._step_s, self._clock.remaining)
        if limit <= 0:
            return Outcome(step.key, "left", TIME_IS_UP)
        reason = f"took longer than {format_seconds(self._step_s)} (--step-minutes)"
        outcome = perform_apart(step, str(self._store.root), limit, late=reason)
        if outcome.status == "late" and limit < self._step_s:
            return replace(outcome, status="left", reason=TIME_IS_UP)
        return outcome

    def stop(self) -> None:
        """Do nothing: a step that is interrupted ends with its own process."""


class LineProgress:
    """A watcher of `run_steps` that needs nothing but the standard library: a line a step."""

    def __init__(self, clock: TimeBudget) -> None:
        self._clock = clock

    def started(self, step: Step) -> None:
        """Say nothing until it has ended."""

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Say how a step ended; those that were not begun go without saying."""
        if outcome.status in ("left", "blocked"):
            return
        now = format_seconds(self._clock.passed)
        how = format_seconds(outcome.seconds) if outcome.status == "done" else outcome.reason
        log.info(f"[{now:>6}] {step.stage:<8} {step.label}: {how}")
