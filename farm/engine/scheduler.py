"""Run the steps of a plan in order, by an executor. The scheduler knows no stage by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from farm import interrupts
from farm.engine.claims import claims_of
from farm.engine.estimates import Estimates
from farm.engine.interfaces import Executor, Unwatched, Watcher, Watchers
from farm.engine.known import failed_before, known_outcomes
from farm.engine.order import Dependencies, Order, Tries
from farm.engine.ready import ReadySteps
from farm.engine.status import Outcome, StepStatus, StepStatuses
from farm.engine.workers.limits import Limits
from farm.plan.steps import Step

if TYPE_CHECKING:
    from farm.specs import Ref
    from farm.store import Store

__all__ = [
    "Executor",
    "Outcome",
    "StepStatus",
    "Unwatched",
    "Watcher",
    "Watchers",
    "run_steps",
]

log = logging.getLogger(__name__)

_NO_NODE = "no node is left that can run it; the same command goes on when one has joined"


def run_steps(
    steps: Mapping[str, Step],
    store: Store,
    start: Callable[[], Executor],
    watcher: Watcher,
    retry_failed: bool = False,
    limits: Limits | None = None,
    estimates: Estimates | None = None,
) -> dict[str, Outcome]:
    """Run the steps that are not in the store, parents first. Returns the outcome of every step.

    start: makes the executor; it is called only if there is something to do. limits: a step that
    reached a lower one in an earlier run is tried again. estimates: of what steps take, by which
    the longest critical path goes first; what is found is noted there.

    An interruption loses the steps that are running and nothing else.

    Raises:
        InputError: no node can run one of the steps.
        Interrupted: the user or the system ends the run.
    """
    run = _Run(steps, store, watcher, estimates or Estimates())
    run.find_known(retry_failed, limits or Limits())
    if not run.remaining:
        return run.outcomes
    executor = start()
    run.begin(executor)
    try:
        run.claims.begin(run.remaining.values())
        while run.remaining:
            interrupts.check()
            run.start_ready()
            if run.running and (outcome := executor.wait()):
                run.end(outcome)
    except BaseException:
        executor.stop()  # before another sweep may claim what still runs
        raise
    finally:
        run.claims.release_all()
    return run.outcomes


class _Run:
    """One run of a plan: which steps wait and which run, and how the others ended.

    Every status changes by `StepStatuses.change`, which allows what TRANSITIONS has.
    """

    def __init__(
        self, steps: Mapping[str, Step], store: Store, watcher: Watcher, estimates: Estimates
    ) -> None:
        self.remaining, self.running = dict(steps), dict[str, Step]()
        self.outcomes: dict[str, Outcome] = {}
        self.claims = claims_of(store)
        self._steps, self._store, self._watcher = steps, store, watcher
        self._statuses = StepStatuses(steps)
        self._tries = Tries()
        self._estimates = estimates
        estimates.add_plan(steps)
        self._order = Order(steps, estimates)
        self._ready = ReadySteps(self._order.critical_path_s)
        self._executor: Executor | None = None
        self._dependencies = Dependencies(steps)

    def find_known(self, retry_failed: bool, limits: Limits) -> None:
        """End the steps that need no work; forget the failures of those that are tried again."""
        known = known_outcomes(self._steps, self._store, limits, retry_failed)
        for key, outcome in known.items():
            step = self._steps[key]
            if outcome.status is StepStatus.DONE:
                record = self._store.record(step.ref)
                if record and not record.foreign:
                    took = record.seconds, record.peak_host_bytes, record.peak_gpu_bytes
                    self._estimates.note(step, *took)
            self._change(step, outcome)
        for key, step in self.remaining.items():
            if self._store.failure(key):
                log.debug("%s %s failed before and is tried again", step.stage, step.label)
                self._store.forget(step.ref)

    def begin(self, executor: Executor) -> None:
        """Find the steps that can begin; skip the optional ones that no node can run.

        Raises:
            InputError: no node can run a step that is not optional.
            RuntimeError: a parent is not in the plan.
        """
        self._executor = executor
        self._order.renew()  # by what the known steps have taken
        for key, reason in executor.admit(self.remaining.values(), self._estimates).items():
            self._end(self.remaining[key], Outcome(key, StepStatus.SKIPPED, reason))
        for key, step in list(self.remaining.items()):  # parents stand before children
            if key in self.remaining:  # else it was ended with one of its parents
                self._await_parents(step)

    def _await_parents(self, step: Step, pause_s: float = 0.0) -> None:
        """Let a step wait for its parents, or end it where one did not end well."""
        ends = (self.outcomes.get(parent) for parent in step.parents)
        if bad := next((end for end in ends if end and end.status is not StepStatus.DONE), None):
            self._finish(step, Outcome(step.key, StepStatus.BLOCKED, bad.reason))
        elif self._dependencies.is_ready(step, self.outcomes.keys()):
            self._ready.add(step, pause_s)

    def start_ready(self) -> None:
        """Offer the ready steps to the executor until it has no room for more.

        A step that another sweep runs at this moment is put off.
        """
        assert self._executor is not None
        before = len(self.remaining)
        for step in self._ready.offered():
            if not self._is_free(step):
                continue
            if not self._executor.take(step):
                self._ready.declare_full(step)
                continue
            self._ready.take(step)
            log.debug("submitted %s %s (%s)", step.stage, step.label, step.key[:12])
            self._statuses.change(step.key, StepStatus.RUNNING)
            self.running[step.key] = step
            self._watcher.started(step)
        if self.running or len(self.remaining) < before:  # else others may be ready now
            self._ready.idle_since = None
            return
        for step in self._ready.wait_idly():
            self.claims.release(step.key)
            self._finish(step, Outcome(step.key, StepStatus.SKIPPED, _NO_NODE))

    def _is_free(self, step: Step) -> bool:
        """Whether the step is this run's to start, which it claims; else put it off or end it."""
        if step.key in self.claims:  # claimed before, when there was no room for it
            return True
        if not self.claims.claim(step):
            self._ready.put_off(step)
            return False
        if outcome := self._ended_elsewhere(step):
            self._ready.take(step)
            self.claims.release(step.key)
            self._finish(step, outcome)
        return not outcome

    def _ended_elsewhere(self, step: Step) -> Outcome | None:
        """The outcome of a step that another sweep has run since this one began."""
        if self._store.holds(step.ref) and self._store.record(step.ref):
            return Outcome(step.key, StepStatus.DONE)
        failure = None if step.key in self._tries else self._store.failure(step.key)
        return failed_before(failure) if failure else None

    def end(self, outcome: Outcome) -> None:
        """Take the outcome of a running step; a transient failure is tried again."""
        step = self.running.pop(outcome.key)
        self._store.drop(step.ref)
        if outcome.record:
            self._store.note(outcome.record)
            outcome = replace(outcome, record=None)
        self.claims.release(step.key)
        self._estimates.learn(step, outcome)
        if self._order.renew():
            self._ready.reorder()
        if outcome.status is StepStatus.WAITING:
            self._statuses.change(step.key, StepStatus.WAITING)
            self._await_parents(step)
            return
        if self._tries.allow_another(outcome):
            log.debug("%s %s is tried again: %s", step.stage, step.label, outcome.reason)
            self._statuses.change(step.key, StepStatus.TRANSIENT)
            self._statuses.change(step.key, StepStatus.WAITING)
            if outcome.altered:
                self._make_anew(outcome.altered)
            if step.key in self.remaining:  # else its parent cannot be made anew
                self._await_parents(step, self._tries.pause_s(outcome))
            return
        self._finish(step, outcome)

    def _make_anew(self, altered: Ref) -> None:
        """Run a parent again whose artifact is no longer what it was."""
        self._store.drop(altered)
        if altered.key in self.outcomes and not self._store.record(altered):
            parent = self._steps[altered.key]
            del self.outcomes[altered.key]
            self._statuses.change(altered.key, StepStatus.WAITING)
            self.remaining[altered.key] = parent
            for child in self._dependencies.children(altered.key):
                if child.key in self.remaining and self._dependencies.parent_runs_again(child):
                    self._ready.withdraw(child)
            self._await_parents(parent)

    def _finish(self, step: Step, outcome: Outcome) -> None:
        """End a step, and with it the wait of its children."""
        ended = [(step, outcome)]
        while ended:
            one, end = ended.pop()
            self._end(one, end)
            for child in self._dependencies.children(one.key):
                if child.key not in self.remaining or child.key in self.running:
                    continue
                if end.status is not StepStatus.DONE:
                    ended.append((child, Outcome(child.key, StepStatus.BLOCKED, end.reason)))
                elif self._dependencies.parent_ended(child):
                    self._ready.add(child)

    def _end(self, step: Step, outcome: Outcome) -> None:
        self._change(step, outcome)
        if self._executor:
            self._executor.forget(step)
        self._watcher.ended(step, outcome)

    def _change(self, step: Step, outcome: Outcome) -> None:
        self._statuses.change(step.key, outcome.status)
        self.outcomes[step.key] = outcome
        self.remaining.pop(step.key, None)
