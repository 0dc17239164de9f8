"""Check every model of a matrix before any other work, and find what is wrong at its line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from farm.engine.known import tried_again
from farm.engine.scheduler import Executor, Unwatched, run_steps
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.limits import limits_of
from farm.errors import InputError, InputErrors
from farm.plan import make_plan
from farm.plan.environments import make_environments
from farm.plan.steps import STAGES, Plan, Step
from farm.specs import CheckInputs, CocoDataset
from farm.store.facts import facts_from

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.engine.estimates import Estimates
    from farm.store import Failure, Store

log = logging.getLogger(__name__)


def checked_plan(
    matrix: Matrix,
    store: Store,
    start: Callable[[], Executor],
    retry_failed: bool,
    stages: Sequence[str] = STAGES,
    planned: Plan | None = None,
    outcomes: dict[str, Outcome] | None = None,
    estimates: Estimates | None = None,
) -> Plan:
    """Check every model and return the plan that follows from what was found.

    A model whose check fails for another reason than wrong input loses its own cells alone.

    start: makes the executor. stages: those that will run on this machine, so that their packages
    must be installed. planned: the plan by what the store knows, where the caller has made it.
    outcomes: gets how the checks have ended. estimates: as of `run_steps`.

    Raises:
        InputError: files of the user are wrong, or a package is missing.
        Interrupted: the user or the system ends the run.
    """
    tried, may_try = set[str](), tried_again(limits_of(matrix.spec.limits))

    def again(failure: Failure) -> bool:
        return failure.key not in tried and may_try(failure)

    make_environments(matrix)
    if planned is None or planned.unmade:
        planned = make_plan(matrix, facts_from(store, repair=True, again=again))
    plan = planned
    require_packages((step for step in plan.steps.values() if step.stage in stages), store)
    if retry_failed:
        for step in plan.of_stage("check"):
            store.forget(step.ref)
        plan = make_plan(matrix, facts_from(store, again=again))
    checked, reasons = dict[str, Step](), dict[str, str]()
    while plan.unchecked:
        many = "" if len(plan.unchecked) == 1 else "s"
        log.info(f"Checking {len(plan.unchecked)} model{many}: configs, checkpoints, classes")
        checks = {step.key: step for step in plan.of_stage("check") if step.key not in reasons}
        ended = _run(matrix, checks, store, start, estimates)
        tried |= ended.keys()
        unrecorded = (one for one in ended.values() if one.status is StepStatus.TRANSIENT)
        reasons |= {one.key: one.reason for one in unrecorded}
        if outcomes is not None:
            outcomes |= ended
        # Two models of the same config and checkpoint share a check, but may lie beside different
        # modules: the next plan compares what the check found with the files of each.
        checked |= {step.label: step for step in checks.values()}
        plan = make_plan(matrix, facts_from(store, reasons, again=again), checked)
    return plan


def require_packages(steps: Iterable[Step], store: Store) -> None:
    """Require the packages of the steps to be installed here: their versions are in the keys.

    Those of a step with an environment of its own were looked for when that was made.

    Raises:
        InputError: a package of a step that is not in the store is missing.
    """
    steps = list(steps)
    store.learn(step.ref for step in steps)
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


def _run(
    matrix: Matrix,
    checks: Mapping[str, Step],
    store: Store,
    start: Callable[[], Executor],
    estimates: Estimates | None,
) -> dict[str, Outcome]:
    """Run the checks. Raises InputError."""
    limits = limits_of(matrix.spec.limits)
    outcomes = run_steps(checks, store, start, Unwatched(), limits=limits, estimates=estimates)
    errors = [
        InputError(outcome.reason, _where(matrix, checks[outcome.key], outcome.reason))
        for outcome in outcomes.values()
        if outcome.status is StepStatus.INVALID_INPUT
    ]
    if errors:
        raise errors[0] if len(errors) == 1 else InputErrors(errors)
    return outcomes


def log_notes(plan: Plan, store: Store) -> None:
    """Log each oddity of the data sets that `check` has noted and that is no error."""
    records = filter(None, (store.record(step.ref) for step in plan.of_stage("check")))
    notes = [record.figures.get("notes") or [] for record in records]
    for note in dict.fromkeys(
        str(one) for found in notes if isinstance(found, list) for one in found
    ):
        log.warning(f"Note: {note}")


_KEYS = {"config": "config", "checkpoint": "checkpoint", "file": "file", "code": "function"}
"""The files of a model, each with the key of the matrix that names it."""


def _where(matrix: Matrix, step: Step, reason: str) -> str:
    """The line that names the file with which the reason begins, else the line of the model."""
    assert isinstance(step.inputs, CheckInputs)
    model, key = step.inputs.model, ("models", step.label)
    if reason.startswith("labels: "):
        return matrix.document.where((*key, "labels"))
    for name, named_by in _KEYS.items():
        file = getattr(model, name, None)
        if file is not None and reason.startswith(file.path):
            return matrix.document.where((*key, named_by))
    for named_by in ("dataset", "calibration"):
        images = getattr(step.inputs, named_by)
        for name in ("images", "annotations"):
            if isinstance(images, CocoDataset) and reason.startswith(getattr(images, name).path):
                return matrix.document.where((named_by, name))
    return matrix.document.where(key)
