"""Run the steps of a plan in order, by an executor. The scheduler knows no stage by name."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from farm import interrupts
from farm.engine.status import Outcome, StepStatus, StepStatuses
from farm.errors import InputError
from farm.plan.steps import Step

if TYPE_CHECKING:
    from farm.store import Store

__all__ = [
    "Executor",
    "Outcome",
    "StepStatus",
    "Unwatched",
    "Watcher",
    "require_packages",
    "run_steps",
]

log = logging.getLogger(__name__)

TRIES = 3
"""How often a step is started at most that fails for a temporary reason."""


class Executor(Protocol):
    """Runs steps: on the nodes of a cluster, or on this machine."""

    def admit(self, steps: Iterable[Step]) -> Mapping[str, str]:
        """Return why no node can run them, by key, of the optional steps of which that is so.

        Raises:
            InputError: no node can run a step that is not optional. This is before any work.
        """
        ...

    def take(self, step: Step) -> bool:
        """Start the step if there is room for it now; return whether there is."""
        ...

    def wait(self) -> Outcome:
        """Wait until one of the running steps has ended, and return how."""
        ...

    def stop(self) -> None:
        """End the steps that are running."""
        ...


class Watcher(Protocol):
    """Is called for each step that starts or ends; a progress display, for instance."""

    def started(self, step: Step) -> None:
        """Note that an executor has taken the step."""
        ...

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Note how the step ended; once a step, whatever number of tries it had."""
        ...


class Unwatched:
    """A watcher that does nothing."""

    def started(self, step: Step) -> None:
        """Do nothing."""

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Do nothing."""


def require_packages(steps: Iterable[Step], store: Store) -> None:
    """Require the packages of the steps to be installed here: their versions are in the keys.

    Those of a step with an environment of its own were looked for when that was made.

    Raises:
        InputError: a package of a step that is not in the store is missing.
    """
    absent = {
        name
        for step in steps
        if step.environment is None and not store.record(step.ref)
        for name, version in step.toolchain
        if version == "absent"
    }
    if absent:
        raise InputError(
            f"{', '.join(sorted(absent))} not installed; `farm doctor` says how to get what is "
            "missing (or leave that runtime out)"
        )


def run_steps(
    steps: Mapping[str, Step],
    store: Store,
    start: Callable[[], Executor],
    watcher: Watcher,
    retry_failed: bool = False,
) -> dict[str, Outcome]:
    """Run the steps that are not in the store, parents first. Returns the outcome of every step.

    start: makes the executor; it is called only if there is something to do. An interruption loses
    the steps that are running and nothing else.

    Raises:
        InputError: no node can run one of the steps.
        Interrupted: the user or the system ends the run.
    """
    run = _Run(steps, watcher)
    run.find_known(store, retry_failed)
    if not run.waiting:
        return run.outcomes
    executor = start()
    run.skip(executor.admit(run.waiting.values()))
    run.block()
    while run.waiting or run.running:
        interrupts.check()
        run.start_ready(executor)
        run.end(executor.wait())
    return run.outcomes


class _Run:
    """One run of a plan: which steps wait and which run, and how the others ended.

    Every status changes by `StepStatuses.change`, which allows what TRANSITIONS has.
    """

    def __init__(self, steps: Mapping[str, Step], watcher: Watcher) -> None:
        self.waiting, self.running = dict(steps), dict[str, Step]()
        self.outcomes: dict[str, Outcome] = {}
        self._statuses = StepStatuses(steps)
        self._tries: Counter[str] = Counter()
        self._watcher = watcher

    def find_known(self, store: Store, retry_failed: bool) -> None:
        """End the steps that need no work: done, or failed in a way that would repeat itself."""
        for key, step in list(self.waiting.items()):
            if store.record(step.ref):
                self._change(step, Outcome(key, StepStatus.DONE))
            elif failure := store.failure(key):
                if retry_failed:
                    log.debug("%s %s failed before and is tried again", step.stage, step.label)
                    store.forget(step.ref)
                else:
                    self._change(step, Outcome(key, StepStatus.FAILED, failure.reason))
        known = Counter(str(outcome.status) for outcome in self.outcomes.values())
        log.debug("found in the store: %s", dict(known) or "nothing")

    def skip(self, reasons: Mapping[str, str]) -> None:
        """End the optional steps that no node can run. reasons: why, by key."""
        for key, reason in reasons.items():
            self._end(self.waiting[key], Outcome(key, StepStatus.SKIPPED, reason))

    def block(self) -> None:
        """End the steps that wait for one that did not end well; parents stand before children."""
        for key, step in list(self.waiting.items()):
            ends = (self.outcomes[parent] for parent in step.parents if parent in self.outcomes)
            bad = next((end for end in ends if end.status is not StepStatus.DONE), None)
            if bad:
                self._end(step, Outcome(key, StepStatus.BLOCKED, bad.reason))

    def start_ready(self, executor: Executor) -> None:
        """Offer every ready step to the executor. It is asked once for steps of equal needs: where
        it has no room for one, it has none for the others.

        Raises:
            RuntimeError: nothing runs and nothing is ready: a parent is not in the plan.
        """
        full = set()
        for step in self._ready():
            kind = (step.needs, getattr(step.inputs, "target", None))
            if kind in full:
                continue
            if not executor.take(step):
                full.add(kind)
                continue
            log.debug("submitted %s %s (%s)", step.stage, step.label, step.key[:12])
            self._statuses.change(step.key, StepStatus.RUNNING)
            self.running[step.key] = self.waiting.pop(step.key)
            self._watcher.started(step)
        if not self.running:
            stuck = ", ".join(f"{step.stage} {step.label}" for step in self.waiting.values())
            raise RuntimeError(f"no step can go on: {stuck} wait for steps that are not planned")

    def _ready(self) -> list[Step]:
        """Steps whose parents are done; those that need a node for themselves come last."""
        steps = self.waiting.values()
        ready = [step for step in steps if all(key in self.outcomes for key in step.parents)]
        return sorted(ready, key=lambda step: step.needs.exclusive)

    def end(self, outcome: Outcome) -> None:
        """Take the outcome of a running step; a transient failure is tried again."""
        step = self.running[outcome.key]
        self._tries[step.key] += 1
        if outcome.status is StepStatus.TRANSIENT and self._tries[step.key] < TRIES:
            log.debug("%s %s is tried again: %s", step.stage, step.label, outcome.reason)
            self._statuses.change(step.key, StepStatus.TRANSIENT)
            self._statuses.change(step.key, StepStatus.WAITING)
            self.waiting[step.key] = self.running.pop(step.key)
            return
        self._end(step, outcome)
        if outcome.status is not StepStatus.DONE:
            self.block()

    def _end(self, step: Step, outcome: Outcome) -> None:
        self._change(step, outcome)
        self._watcher.ended(step, outcome)

    def _change(self, step: Step, outcome: Outcome) -> None:
        self._statuses.change(step.key, outcome.status)
        self.outcomes[step.key] = outcome
        self.waiting.pop(step.key, None)
        self.running.pop(step.key, None)
