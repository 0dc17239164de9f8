"""Plan the steps of the single-model tools with the planner's own parts, and run them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from farm import specs
from farm.config.loader import Cell
from farm.errors import InputError, StepFailed
from farm.plan.checks import CheckedModel, check_model, checked_by
from farm.plan.compatibility import cell_unsupported
from farm.plan.steps import export_step, step_to_build
from farm.single import onnx_file
from farm.single.shapes import free
from farm.single.work import find_artifact, run_step
from farm.store import Store
from farm.store.facts import facts_from
from farm.units import Dims


def check_detector(
    model: specs.Model, store: Store, retry_failed: bool
) -> CheckedModel[specs.Model]:
    """Return the model as a sweep's plan has it in its keys; check it unless the store has that.

    What fails in this check, which has no data set, fails again in the step that the model is for,
    and is reported there.

    Raises:
        InputError: the config or the checkpoint is wrong.
    """
    values, facts = specs.CheckInputs(model, None), facts_from(store)
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
        InputError: as `onnx_file.input_extent`.
        StepFailed, FarmError: as `run_step`.
    """
    if found := find_artifact(store, "export", path):
        return found.ref
    file = onnx_file.input_extent(path)
    opt = Dims(file.n or 1, 3, file.h or 1, file.w or 1)
    shape = free(file.n, file.h, file.w, opt)
    step = export_step(path.name, specs.ExportInputs(onnx_file.raw_model(path), shape, None))
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
        path.name, onnx_file.opset(path), options.shape.name, "graph", options.precision,
        options.runtime, options.workspace_bytes, target.name,
    )  # fmt: skip
    facts = specs.ModelFacts((), False, "")  # the builder itself refuses a suppression it lacks
    if reason := cell_unsupported(cell, facts, options.shape, target, simplify=simplified):
        raise InputError(reason, str(path))
