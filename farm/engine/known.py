"""The outcomes of steps that the store knows, so that they need no work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from farm.engine.status import Outcome, StepStatus
from farm.errors import FailureKind

if TYPE_CHECKING:
    from farm.engine.estimates import Estimates
    from farm.engine.workers.limits import Limits
    from farm.plan.steps import Step
    from farm.store import Failure, Store

log = logging.getLogger(__name__)


def known_outcomes(
    steps: Mapping[str, Step],
    store: Store,
    limits: Limits,
    retry_failed: bool,
    estimates: Estimates,
) -> dict[str, Outcome]:
    """Return the outcomes of steps that are done, or that failed in a way that would repeat itself.

    limits, retry_failed: as of `run_steps`; a failure that is to be tried again is forgotten.
    estimates: gets what the steps have taken that are done.
    """
    found = dict[str, Outcome]()
    for key, step in steps.items():
        if record := store.record(step.ref):
            found[key] = Outcome(key, StepStatus.DONE)
            if not record.foreign:
                estimates.note(step, record.seconds, record.peak_host_bytes)
        elif failure := store.failure(key):
            if retry_failed or limits.of(step.stage).allows_more_than(failure):
                log.debug("%s %s failed before and is tried again", step.stage, step.label)
                store.forget(step.ref)
            else:
                found[key] = failed_before(failure)
    known = Counter(str(outcome.status) for outcome in found.values())
    log.debug("found in the store: %s", dict(known) or "nothing")
    return found


def failed_before(failure: Failure) -> Outcome:
    """Return the outcome of a step with a recorded failure."""
    known = failure.kind in set(FailureKind)  # else an earlier version wrote the file
    kind = FailureKind(failure.kind) if known else None
    return Outcome(failure.key, StepStatus.FAILED, failure.reason, kind=kind)
