"""The steps of the single-model tools: planned by the planner's own parts, run as a sweep's are."""

from __future__ import annotations

import contextlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm import specs
from farm.cli.results import results_of
from farm.engine.checks import require_packages
from farm.engine.claims import remove_stale_work
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Outcome, StepStatus, run_steps
from farm.errors import FarmError, InputError, StepFailed
from farm.files import atomic
from farm.plan.checks import CheckedModel, check_model, checked_by
from farm.plan.content.files import plain_file
from farm.plan.factory import export_step, step_to_build
from farm.plan.machines.compatibility import cell_unsupported
from farm.single import exported, metadata
from farm.single.inputs import free_shape
from farm.specs import Cell, Dims
from farm.store.facts import facts_from
from farm.store.upkeep.repair import discard_altered
from farm.units import format_seconds

if TYPE_CHECKING:
    from farm.plan import Step
    from farm.specs import Ref
    from farm.store import Record, Store

log = logging.getLogger(__name__)


def open_store(results: str | None) -> Store:
    """Return the store of `--results`, else the one of the sweeps that are run in this folder.

    Raises:
        InputError: its folder cannot be made.
    """
    store = results_of(results).store()
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
    discard_altered(store, [step.ref])
    if store.record(step.ref):
        log.info(f"{step.stage} {step.label}: found in the store, nothing to do")
        log.debug(store.log_path(step.ref).read_text(errors="replace"))
        return store.files(step.ref)
    if store.failure(step.key) and not retry_failed:
        log.info(f"{step.stage} {step.label}: failed before; --retry-failed tries it once more")
    require_packages([step], store)
    remove_stale_work(store)
    executor = LocalExecutor(store, echo=log.isEnabledFor(logging.DEBUG))
    outcomes = run_steps({step.key: step}, store, lambda: executor, _Lines(), retry_failed)
    _raise_unless_done(step, outcomes[step.key], store)
    return store.files(step.ref)


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
    refs = list(store.refs(stage))
    store.learn(refs)
    for ref in refs:
        record = store.record(ref)
        for name in record.files if record else ():
            assert record is not None
            if record.files[name] != size:
                continue
            digest = digest or _sha256(path)
            if record.digests[name] == digest and not store.altered(ref):
                return FoundArtifact(record, ref)
    return None


def _sha256(path: Path) -> str:
    return plain_file("file", str(path), Path()).digest


def check_detector(
    model: specs.Model, store: Store, retry_failed: bool
) -> CheckedModel[specs.Model]:
    """Return the model as a sweep's plan has it in its keys; check it unless the store has that.

    What fails in this check, which has no data set, fails again in the step that the model is for,
    and is reported there.

    Raises:
        InputError: the config or the checkpoint is wrong.
    """
    values, facts = specs.CheckInputs(model, None), facts_from(store, repair=True)
    found = check_model(model, values, facts)
    if found.facts is not None and not (retry_failed and store.failure(found.step.key)):
        return found
    with contextlib.suppress(StepFailed):
        run_step(found.step, store, retry_failed)
    return checked_by(model, found.step, facts_from(store)(found.step.key))


def export_onnx(
    model: CheckedModel[specs.Model], values: specs.ExportInputs, store: Store, retry_failed: bool
) -> Path:
    """Export the model, and return the folder of its ONNX file.

    Raises:
        InputError, StepFailed, FarmError: as `run_step`.
    """
    label = f"{values.model.name} op{values.opset} {values.shape.name}"
    return run_step(model.loading(export_step(label, values)), store, retry_failed)


def import_onnx(path: Path, store: Store, retry_failed: bool) -> specs.Ref:
    """Return the artifact that an ONNX file is: of an export, else the file is taken in as it is.

    Raises:
        InputError: as `metadata.onnx_extent`.
        StepFailed, FarmError: as `run_step`.
    """
    if found := find_artifact(store, "export", path):
        return found.ref
    if described := exported.artifact_of(path, store):
        return described
    file = metadata.onnx_extent(path)
    opt = Dims(file.n or 1, 3, file.h or 1, file.w or 1)
    shape = free_shape(file.n, file.h, file.w, opt)
    step = export_step(path.name, specs.ExportInputs(metadata.raw_onnx_model(path), shape, None))
    run_step(step, store, retry_failed)
    return step.ref


def build_engine(
    path: Path,
    file: specs.Ref,
    options: specs.EngineOptions,
    target: specs.Target,
    store: Store,
    retry_failed: bool,
) -> Path:
    """Build a runtime's engine of an ONNX file, and return the engine's folder.

    path, file: the ONNX file, and the artifact that it is.

    Raises:
        InputError: the runtime does not support this file, or not for this target.
        StepFailed, FarmError: as `run_step`.
    """
    _require_supported(path, file, options, target, store)
    label = f"{path.name} {options.runtime} {options.shape.name}"
    step = step_to_build(label, file, options, target)
    return run_step(step, store, retry_failed) / "engine"


def _require_supported(
    path: Path,
    file: specs.Ref,
    options: specs.EngineOptions,
    target: specs.Target,
    store: Store,
) -> None:
    """Raise InputError for what a sweep's plan finds unsupported.

    Only a record of the store says that a file was simplified: of other files it is not known.
    """
    record = store.record(file)
    simplified = bool(record and record.inputs.get("simplify"))
    cell = Cell(
        path.name, metadata.onnx_opset(path), options.shape.name, "graph", options.precision,
        options.runtime, options.workspace_bytes, target.name,
    )  # fmt: skip
    facts = specs.ModelFacts((), False, "")  # the builder itself refuses a suppression it lacks
    if reason := cell_unsupported(cell, facts, options.shape, target, simplify=simplified):
        raise InputError(reason, str(path))
