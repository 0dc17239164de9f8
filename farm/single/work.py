"""The steps of the single-model tools: planned by the planner's parts, run as a sweep's are."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from farm import atomic
from farm.cli.places import results_folder, store_folder
from farm.engine.local import InlineExecutor
from farm.engine.scheduler import Outcome, StepStatus, require_packages, run_steps
from farm.errors import FarmError, InputError, StepFailed
from farm.plan import Step
from farm.plan.files import plain_file
from farm.specs import Ref
from farm.store import Record, Store
from farm.units import format_seconds

log = logging.getLogger(__name__)


def open_store(results: str | None) -> Store:
    """Return the store of `--results`, else the one of the sweeps that are run in this folder.

    Raises:
        InputError: its folder cannot be made.
    """
    store = Store(store_folder(results_folder(results)))
    try:
        store.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"results cannot be kept in {store.root}: {error.strerror}"
        raise InputError(f"{reason}; give another --results") from None
    return store


def run_step(step: Step, store: Store, retry_failed: bool = False) -> Path:
    """Run a step unless the store has its artifact, and return the artifact's folder.

    With `-v` it shows the step's log.

    Raises:
        InputError: the user's files are wrong, or a package is not installed.
        StepFailed: the step failed, and would fail again.
        FarmError: the step ended otherwise, for instance out of memory.
    """
    if store.record(step.ref):
        log.info(f"{step.stage} {step.label}: found in the store, nothing to do")
        log.debug(store.log_path(step.ref).read_text(errors="replace"))
        return store.path(step.ref)
    if store.failure(step.key) and not retry_failed:
        log.info(f"{step.stage} {step.label}: failed before; --retry-failed tries it once more")
    require_packages([step], store)
    store.remove_stale_work()
    executor = InlineExecutor(store, echo=log.isEnabledFor(logging.DEBUG))
    outcomes = run_steps({step.key: step}, store, lambda: executor, _Lines(), retry_failed)
    _raise_unless_done(step, outcomes[step.key], store)
    return store.path(step.ref)


def _raise_unless_done(step: Step, outcome: Outcome, store: Store) -> None:
    if outcome.status is StepStatus.DONE:
        return
    if outcome.status is StepStatus.INVALID_INPUT:
        raise InputError(outcome.reason)
    message = f"{step.stage} {step.label}: {outcome.reason}"
    path = store.log_path(step.ref)
    if path.exists():
        message += f"\nIts log: {path}"
    raise StepFailed(message) if outcome.status is StepStatus.FAILED else FarmError(message)


class _Lines:
    """Logs a line when a step starts, and one when it is done."""

    def started(self, step: Step) -> None:
        """Log that the step starts."""
        log.info(f"{step.stage} {step.label} ...")

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Log how long the step took, if it is done: what else it ends in is an error."""
        if outcome.status is StepStatus.DONE:
            log.info(f"{step.stage} {step.label}: done in {format_seconds(outcome.seconds)}")


def copy_artifact(artifact: Path, output: Path) -> None:
    """Copy a file of the store to `output`.

    It is not a link: what is then done to the file in place must not change the store.

    Raises:
        OSError: it cannot be written.
    """
    with atomic.replacing(output) as part:
        shutil.copyfile(artifact, part)


@dataclass(frozen=True)
class FoundArtifact:
    """An artifact of the store that has the same content as a user's file."""

    record: Record
    ref: Ref


def find_artifact(store: Store, stage: str, path: Path) -> FoundArtifact | None:
    """Return the finished step of `stage` that left the very bytes of `path`, if there is one."""
    size, digest = path.stat().st_size, None
    for ref in store.refs(stage):
        record = store.record(ref)
        for name in record.files if record else ():
            assert record is not None
            if record.files[name] != size:
                continue
            digest = digest or _sha256(path)
            if _sha256(store.path(ref) / name) == digest:
                return FoundArtifact(record, ref)
    return None


def _sha256(path: Path) -> str:
    return plain_file("file", str(path), Path()).digest
