"""What the store knows of steps: how those ended that need no work, and which are to be done."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from farm.engine.status import Outcome, StepStatus
from farm.failures import FailureKind

if TYPE_CHECKING:
    from farm.engine.workers.limits import Limits
    from farm.plan.steps import Step
    from farm.store import Failure, Store

log = logging.getLogger(__name__)

_TEMPORARY = {FailureKind.NODE_LOST.value, FailureKind.IO.value, FailureKind.OOM.value}
"""The classes of failures that the same inputs need not repeat. They are not recorded, but those
that reached a limit; an earlier version may have."""


def known_outcomes(
    steps: Mapping[str, Step], store: Store, limits: Limits, retry_failed: bool
) -> dict[str, Outcome]:
    """Return the outcomes of steps that are done, that failed in a way that would repeat itself,
    and that wait for one which failed so. All others are to be done.

    steps: parents stand before children. limits, retry_failed: as of `run_steps`.
    """
    found, again = dict[str, Outcome](), tried_again(limits)
    for key, step in steps.items():
        if store.record(step.ref):
            found[key] = Outcome(key, StepStatus.DONE)
            continue
        failure = store.failure(key)
        if failure and not (retry_failed or again(failure)):
            found[key] = failed_before(failure)
            continue
        ends = (found[parent] for parent in step.parents if parent in found)
        if bad := next((end for end in ends if end.status is not StepStatus.DONE), None):
            found[key] = Outcome(key, StepStatus.BLOCKED, bad.reason)
    known = Counter(str(outcome.status) for outcome in found.values())
    log.debug("found in the store: %s", dict(known) or "nothing")
    return found


def steps_to_do(
    steps: Mapping[str, Step], store: Store, limits: Limits, retry_failed: bool = False
) -> list[Step]:
    """Return the steps that `run_steps` would run with these limits."""
    known = known_outcomes(steps, store, limits, retry_failed)
    return [step for key, step in steps.items() if key not in known]


def tried_again(limits: Limits) -> Callable[[Failure], bool]:
    """Return a function that says of a recorded failure whether its step is tried again: the limit
    that it reached was lower than the one it has now, or its class is a temporary one."""

    def again(failure: Failure) -> bool:
        temporary = failure.kind in _TEMPORARY and not failure.limit
        return temporary or limits.of(failure.stage).allows_more_than(failure)

    return again


def failed_before(failure: Failure) -> Outcome:
    """Return the outcome of a step with a recorded failure."""
    known = failure.kind in set(FailureKind)  # else an earlier version wrote the file
    kind = FailureKind(failure.kind) if known else None
    return Outcome(failure.key, StepStatus.FAILED, failure.reason, kind=kind)
