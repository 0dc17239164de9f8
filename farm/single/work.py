"""One step done through the store, and its artifact put where the user wants it."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from farm import atomic
from farm.catalog import RUNTIMES
from farm.cli.places import results_folder, store_folder
from farm.engine.local import InlineExecutor
from farm.engine.scheduler import Outcome, StepStatus, require_packages, run_steps
from farm.errors import FarmError, InputError, StepFailed
from farm.plan import Step
from farm.plan.files import plain_file
from farm.plan.packages import version
from farm.runtimes import Runtime
from farm.specs import Ref
from farm.store import Record, Store
from farm.units import format_seconds

log = logging.getLogger(__name__)


def open_store(results: str | None) -> Store:
    """The store of `--results`, else of the sweeps that are run here.

    Raises InputError where it cannot be.
    """
    store = Store(store_folder(results_folder(results)))
    try:
        store.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"results cannot be kept in {store.root}: {error.strerror}"
        raise InputError(f"{reason}; give another --results") from None
    return store


def carry_out(step: Step, store: Store, retry_failed: bool = False) -> Path:
    """The folder of the step's artifact; made now, unless the store has it, and it says which.

    With `-v` it shows the step's log. Raises InputError, StepFailed or FarmError.
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
    _raise_if_bad(step, outcomes[step.key], store)
    return store.path(step.ref)


def _raise_if_bad(step: Step, outcome: Outcome, store: Store) -> None:
    if outcome.status is StepStatus.DONE:
        return
    if outcome.status is StepStatus.INVALID_INPUT:
        raise InputError(outcome.reason)
    told = f"{step.stage} {step.label}: {outcome.reason}"
    path = store.log_path(step.ref)
    if path.exists():
        told += f"\nIts log: {path}"
    raise StepFailed(told) if outcome.status is StepStatus.FAILED else FarmError(told)


class _Lines:
    """Says what is under way."""

    def started(self, step: Step) -> None:
        log.info(f"{step.stage} {step.label} ...")

    def ended(self, step: Step, outcome: Outcome) -> None:
        if outcome.status is StepStatus.DONE:
            log.info(f"{step.stage} {step.label}: done in {format_seconds(outcome.seconds)}")


def put(artifact: Path, output: Path) -> None:
    """A copy of the artifact at `output`.

    Not a link: what is then done to the file in place must not reach into the store.
    """
    with atomic.replacing(output) as part:
        shutil.copyfile(artifact, part)


@dataclass(frozen=True)
class FoundArtifact:
    """An artifact of the store that a user's file is."""

    record: Record
    ref: Ref


def find(store: Store, stage: str, path: Path) -> FoundArtifact | None:
    """The finished step of `stage` that left the very bytes of `path`, wherever that lies now."""
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


def require_runtime(name: str, option: str = "") -> Runtime:
    """The runtime's line in the catalog. Raises InputError if it is not there or not installed.

    option: that named it.
    """
    runtime = RUNTIMES.get(name)
    if runtime is None or not runtime.exported:
        what = f"{name} builds no engine" if runtime else f"this farm has no runtime {name}"
        there = ", ".join(one for one, known in RUNTIMES.items() if known.exported)
        raise InputError(f"{what}; there are: {there}", option)
    if absent := [package for package in runtime.packages if version(package) == "absent"]:
        raise InputError(
            f"{name} needs {', '.join(absent)}, not installed; `farm doctor` says how to get it",
            option,
        )
    return runtime
