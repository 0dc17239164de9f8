"""Run steps one after another, each in its own process, until the time is up."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from farm.engine.process import perform_apart
from farm.engine.status import Outcome, StepStatus
from farm.plan import Step
from farm.store import Store
from farm.units import format_seconds

log = logging.getLogger(__name__)

TIME_IS_UP = "the time was up"


@dataclass(frozen=True)
class TimeBudget:
    """The time of a run: its start by `time.monotonic`, and its length in seconds."""

    began: float
    seconds: float

    @property
    def passed(self) -> float:
        """The seconds since the start."""
        return time.monotonic() - self.began

    @property
    def remaining(self) -> float:
        """The seconds until the end; negative after it."""
        return self.seconds - self.passed


class LocalExecutor:
    """An executor of `run_steps`, in which a step that crashes or hangs stops no other.

    A step that takes longer than `step_s` is stopped and TIMED_OUT. When the time of the run is up,
    the step under way is stopped, and no other is started: they are SKIPPED.
    """

    def __init__(self, store: Store, clock: TimeBudget, step_s: float) -> None:
        self._store, self._clock, self._step_s = store, clock, step_s
        self._step: Step | None = None

    def admit(self, steps: Iterable[Step]) -> Mapping[str, str]:
        """Admit every step: `relocate` has planned only those that can run here."""
        return {}

    def take(self, step: Step) -> bool:
        """Take the step unless one is under way."""
        if self._step is not None:
            return False
        self._step = step
        return True

    def wait(self) -> Outcome:
        """Run the step that was taken to its end."""
        assert self._step is not None
        step, self._step = self._step, None
        limit = min(self._step_s, self._clock.remaining)
        if limit <= 0:
            return Outcome(step.key, StepStatus.SKIPPED, TIME_IS_UP)
        reason = f"took longer than {format_seconds(self._step_s)} (--step-minutes)"
        outcome = perform_apart(step, str(self._store.root), limit, late=reason)
        if outcome.status is StepStatus.TIMED_OUT and limit < self._step_s:
            return replace(outcome, status=StepStatus.SKIPPED, reason=TIME_IS_UP)
        return outcome

    def stop(self) -> None:
        """Do nothing: the process of an interrupted step has ended."""


class LineProgress:
    """A watcher of `run_steps` that logs a line for each step, with the standard library alone."""

    def __init__(self, clock: TimeBudget) -> None:
        self._clock = clock

    def started(self, step: Step) -> None:
        """Log nothing until the step has ended."""

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Log how a step ended, unless it was never started."""
        if outcome.status in (StepStatus.SKIPPED, StepStatus.BLOCKED):
            return
        now = format_seconds(self._clock.passed)
        how = (
            format_seconds(outcome.seconds) if outcome.status is StepStatus.DONE else outcome.reason
        )
        log.info(f"[{now:>6}] {step.stage:<8} {step.label}: {how}")
