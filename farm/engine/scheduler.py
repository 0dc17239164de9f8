"""Executors: run a plan's steps in order, each where it fits. They know no stage by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from farm import interrupts
from farm.engine.perform import Outcome, perform
from farm.errors import InputError
from farm.plan import Step
from farm.store import Store

__all__ = [
    "Executor",
    "Outcome",
    "Unwatched",
    "Watcher",
    "perform",
    "require_packages",
    "run_steps",
]

TRIES = 3
"""How often a step is started that fails for a reason of the moment."""


class Executor(Protocol):
    """Runs steps. `take` starts one if there is room for it now; `wait` gives one that ended.

    `admit` raises InputError, before any work, for a step that no node here could ever run; of
    optional ones it gives the reasons by key.
    """

    def admit(self, steps: Iterable[Step]) -> Mapping[str, str]: ...

    def take(self, step: Step) -> bool: ...

    def wait(self) -> Outcome: ...

    def stop(self) -> None: ...


class Watcher(Protocol):
    """Is told what happens; a progress display, say."""

    def started(self, step: Step) -> None: ...

    def ended(self, step: Step, outcome: Outcome) -> None: ...


class Unwatched:
    """A watcher that says nothing."""

    def started(self, step: Step) -> None:
        pass

    def ended(self, step: Step, outcome: Outcome) -> None:
        pass


def require_packages(steps: Iterable[Step], store: Store) -> None:
    """What a step needs must be installed where it is planned: its version is in the key.

    Raises:
        InputError: names what is missing for steps that are not in the store.
    """
    absent = {
        name
        for step in steps
        if not store.record(step.ref)
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
    """Run what is not in the store, parents first. Returns the outcome of every step.

    `start` gives the executor, and is called only if there is something to do. What is
    interrupted loses the steps under way and nothing else.
    """
    outcomes = _known(steps, store, retry_failed)
    waiting = {key: step for key, step in steps.items() if key not in outcomes}
    if not waiting:
        return outcomes
    executor = start()
    for key, reason in executor.admit(waiting.values()).items():
        outcomes[key] = Outcome(key, "left", reason)
        watcher.ended(waiting.pop(key), outcomes[key])
    _drive(waiting, outcomes, executor, watcher)
    return outcomes


def _known(steps: Mapping[str, Step], store: Store, retry_failed: bool) -> dict[str, Outcome]:
    """Steps that need no work: done, or failed in a way that would repeat itself."""
    outcomes = {}
    for key, step in steps.items():
        if store.record(step.ref):
            outcomes[key] = Outcome(key, "done")
        elif failure := store.failure(key):
            if retry_failed:
                store.forget(step.ref)
            else:
                outcomes[key] = Outcome(key, "failed", failure.reason)
    return outcomes


def _drive(
    waiting: dict[str, Step], outcomes: dict[str, Outcome], executor: Executor, watcher: Watcher
) -> None:
    running: dict[str, Step] = {}
    tries: dict[str, int] = {}
    _block(waiting, outcomes, watcher)
    while waiting or running:
        interrupts.check()
        _start_ready(waiting, running, outcomes, executor, watcher)
        if not running:
            stuck = ", ".join(f"{step.stage} {step.label}" for step in waiting.values())
            raise RuntimeError(f"no step can go on: {stuck} wait for steps that are not planned")
        outcome = executor.wait()
        step = running.pop(outcome.key)
        tries[step.key] = tries.get(step.key, 0) + 1
        if outcome.status == "transient" and tries[step.key] < TRIES:
            waiting[step.key] = step
            continue
        outcomes[step.key] = outcome
        watcher.ended(step, outcome)
        if outcome.status != "done":
            _block(waiting, outcomes, watcher)


def _start_ready(
    waiting: dict[str, Step],
    running: dict[str, Step],
    outcomes: Mapping[str, Outcome],
    executor: Executor,
    watcher: Watcher,
) -> None:
    """Offer every ready step; one refusal speaks for all steps with the same needs."""
    refused = set()
    for step in _ready(waiting, outcomes):
        kind = (step.needs, getattr(step.inputs, "target", None))
        if kind in refused:
            continue
        if not executor.take(step):
            refused.add(kind)
            continue
        running[step.key] = waiting.pop(step.key)
        watcher.started(step)


def _ready(waiting: Mapping[str, Step], outcomes: Mapping[str, Outcome]) -> list[Step]:
    """Steps whose parents are done; those that need a node for themselves come last."""
    ready = [
        step for step in waiting.values() if all(parent in outcomes for parent in step.parents)
    ]
    return sorted(ready, key=lambda step: step.needs.exclusive)


def _block(waiting: dict[str, Step], outcomes: dict[str, Outcome], watcher: Watcher) -> None:
    """Give up steps that wait for one that did not end well; parents stand before children."""
    for key, step in list(waiting.items()):
        bad = [p for p in step.parents if p in outcomes and outcomes[p].status != "done"]
        if bad:
            outcomes[key] = Outcome(key, "blocked", outcomes[bad[0]].reason)
            del waiting[key]
            watcher.ended(step, outcomes[key])
