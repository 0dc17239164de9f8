"""One sweep: check, plan, run, results. The way of a matrix through the farm, in order."""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm import atomic
from farm.cli.places import store_folder
from farm.cli.progress import Progress
from farm.config.loader import Matrix
from farm.engine.scheduler import Executor, Outcome, require_packages, run_steps
from farm.engine.status import CellStatus, StepStatus, failure_reasons, skip_reasons
from farm.errors import InputError, InputErrors
from farm.plan import STAGES, Plan, Step, make_plan
from farm.plan.placement import cores
from farm.results import leaderboard, tracking
from farm.results.columns import Row
from farm.results.escaping import shown, without_secrets
from farm.results.rows import make_rows, places
from farm.specs import CheckInputs, CocoDataset
from farm.store import Store
from farm.store.facts import facts_from
from farm.store.imports import HERE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """How a sweep runs; none of it changes what a step produces."""

    executor: str = "ray"
    address: str | None = None
    retry_failed: bool = False
    mlflow: bool = True
    step_minutes: float = 360.0
    check_minutes: float = 5.0


@dataclass(frozen=True)
class Sweep:
    """What a sweep came to. interrupted: cut short; the next run goes on from there."""

    plan: Plan
    rows: Sequence[Row]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        # Another machine's figures say nothing of how this run went.
        well = (row["status"] == CellStatus.OK and row["origin"] == HERE for row in self.rows)
        return 0 if all(well) else 1


def run_sweep(matrix: Matrix, results: Path, choices: Choices) -> Sweep:
    """Raises InputError for what the user must mend, before any heavy work."""
    store = Store(store_folder(results))
    if missing := make_plan(matrix).missing:
        raise InputErrors(missing)
    with _alone(results, matrix.name):
        _keep_matrix(matrix, results)
        store.remove_stale_work()
        plan, outcomes = make_plan(matrix, facts_from(store)), dict[str, Outcome]()
        interrupted = False
        try:
            with ExitStack() as stack:
                start = starter(store, choices, stack)
                plan = checked_plan(matrix, store, start, choices.retry_failed)
                _say_notes(plan, store)
                outcomes = _run(plan, store, start, choices)
        except KeyboardInterrupt:
            interrupted = True
        rows = publish(matrix, plan, store, outcomes, results, choices)
    return Sweep(plan, rows, interrupted)


def publish(
    matrix: Matrix,
    plan: Plan,
    store: Store,
    outcomes: Mapping[str, Outcome],
    results: Path,
    choices: Choices,
) -> list[Row]:
    """Write the leaderboard and bring MLflow up to date; both derive from the store."""
    failed, skipped = failure_reasons(outcomes.values()), skip_reasons(outcomes.values())
    rows = make_rows(plan, store, matrix.spec.verify, failed, skipped)
    leaderboard.write(rows, results, plan.name)
    if choices.mlflow:
        track(plan.name, rows, store, results)
    return rows


def track(sweep: str, rows: Sequence[Row], store: Store, results: Path) -> None:
    """Bring MLflow up to date; where that cannot be, say so and go on."""
    links = {row["cell"]: places(row, store) for row in rows}
    try:
        tracking.log_sweep(sweep, rows, links, results)
    except Exception as error:  # any server, any database: the results are on disk all the same
        uri = tracking.tracking_uri(results)
        why = without_secrets(f"{type(error).__name__}: {error}", uri)
        log.warning(f"MLflow at {shown(uri)} could not be written ({why}).")
        log.warning("The leaderboard is complete; the same command run again logs it.")


def checked_plan(
    matrix: Matrix,
    store: Store,
    start: Callable[[], Executor],
    retry_failed: bool,
    stages: Sequence[str] = STAGES,
) -> Plan:
    """Check every model first: what is wrong with the user's files ends the sweep here.

    A model whose check ends in any other way loses its own cells, and the others go on.

    stages: those that will be run here, so that their packages must be installed.
    """
    plan = make_plan(matrix, facts_from(store))
    require_packages((step for step in plan.steps.values() if step.stage in stages), store)
    checks = {step.key: step for step in plan.of_stage("check")}
    if retry_failed:
        for step in checks.values():
            store.forget(step.ref)
        plan = make_plan(matrix, facts_from(store))
    checked, lost = dict[str, Step](), dict[str, str]()
    while plan.unchecked:
        many = "" if len(plan.unchecked) == 1 else "s"
        log.info(f"Checking {len(plan.unchecked)} model{many}: configs, checkpoints, classes")
        checks = {step.key: step for step in plan.of_stage("check") if step.key not in lost}
        lost |= _check(matrix, checks, store, start)
        # A model of the same config and checkpoint as another may lie beside other modules: what
        # was found of the one is held against the other by the next plan.
        checked |= {step.label: step for step in checks.values()}
        plan = make_plan(matrix, facts_from(store, lost), checked)
    return plan


def _check(
    matrix: Matrix, checks: Mapping[str, Step], store: Store, start: Callable[[], Executor]
) -> dict[str, str]:
    """Why checks came to nothing this time, by their keys. Raises InputError."""
    with Progress([], 1) as progress:
        outcomes = run_steps(checks, store, start, progress)
    errors = [
        InputError(outcome.reason, _place(matrix, checks[outcome.key], outcome.reason))
        for outcome in outcomes.values()
        if outcome.status is StepStatus.INVALID_INPUT
    ]
    if errors:
        raise errors[0] if len(errors) == 1 else InputErrors(errors)
    return {
        key: one.reason
        for key, one in outcomes.items()
        if one.status in (StepStatus.TRANSIENT, StepStatus.TIMED_OUT)
    }


def _say_notes(plan: Plan, store: Store) -> None:
    """What `check` found odd in the data sets, and was no reason to stop; each once."""
    records = filter(None, (store.record(step.ref) for step in plan.of_stage("check")))
    notes = [record.figures.get("notes") or [] for record in records]
    for note in dict.fromkeys(str(one) for kept in notes if isinstance(kept, list) for one in kept):
        log.warning(f"Note: {note}")


_FILES = {"config": "config", "checkpoint": "checkpoint", "file": "file", "code": "function"}
"""The files of a model, and the key of the matrix that names each."""


def _place(matrix: Matrix, step: Step, reason: str) -> str:
    """The line of the file that the reason begins with, else the model's."""
    assert isinstance(step.inputs, CheckInputs)
    model, key = step.inputs.model, ("models", step.label)
    if reason.startswith("labels: "):
        return matrix.document.where((*key, "labels"))
    for name, said_by in _FILES.items():
        file = getattr(model, name, None)
        if file is not None and reason.startswith(file.path):
            return matrix.document.where((*key, said_by))
    for said_by in ("dataset", "calibration"):
        images = getattr(step.inputs, said_by)
        for name in ("images", "annotations"):
            if isinstance(images, CocoDataset) and reason.startswith(getattr(images, name).path):
                return matrix.document.where((said_by, name))
    return matrix.document.where(key)


def _run(
    plan: Plan, store: Store, start: Callable[[], Executor], choices: Choices
) -> dict[str, Outcome]:
    steps = {key: step for key, step in plan.steps.items() if _is_open(step, store)}
    left = [step for step in steps.values() if not store.record(step.ref)]
    if left:
        todo = f"{len(left)} of {len(steps)} steps to do"
        log.info(f"Sweep {plan.name}: {len(plan.cells)} cells, {todo}")
    with Progress(left, cores()) as progress:
        return run_steps(steps, store, start, progress, choices.retry_failed)


def _is_open(step: Step, store: Store) -> bool:
    """Every model has been checked by now: a check that came to nothing is not begun again."""
    return step.stage != "check" or store.record(step.ref) is not None


def starter(store: Store, choices: Choices, stack: ExitStack) -> Callable[[], Executor]:
    """Starts the executor when it is first asked for: a sweep with nothing to do needs none."""
    started: list[Executor] = []

    def start() -> Executor:
        if not started:
            started.append(_make_executor(store, choices))
            stack.callback(started[0].stop)
        return started[0]

    return start


def _make_executor(store: Store, choices: Choices) -> Executor:
    if choices.executor == "inline":
        from farm.engine.local import InlineExecutor

        return InlineExecutor(store, check_s=choices.check_minutes * 60)
    from farm.engine.ray import RayExecutor

    return RayExecutor(
        store, choices.address, choices.step_minutes * 60, choices.check_minutes * 60
    )


def manifest_path(results: Path, sweep: str) -> Path:
    return results / "sweeps" / f"{sweep}.json"


def _keep_matrix(matrix: Matrix, results: Path) -> None:
    """The matrix as it was run, variables and overrides filled in: `reproduce` does again what
    ran, wherever it is called. Variables may be secrets, so the file is its owner's alone."""
    path = manifest_path(results, matrix.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "matrix": str(matrix.document.path.resolve()),
        "values": matrix.document.values,
    }
    atomic.write(path, json.dumps(values, indent=1), private=True)


@contextmanager
def _alone(results: Path, sweep: str) -> Iterator[None]:
    """One run of a sweep at a time: two would do the same work and measure each other."""
    path = results / "sweeps" / f"{sweep}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (results / "leaderboard").mkdir(exist_ok=True)  # told now, not after the work
        file = path.open("w")
    except OSError as error:
        raise InputError(f"cannot write here: {error.strerror}", str(results)) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"sweep {sweep} is already running there", str(results)) from None
        yield
