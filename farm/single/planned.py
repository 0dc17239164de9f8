"""Plan and do the steps of the single-model tools: by the planner's own parts, into its store."""

from __future__ import annotations

import contextlib
from pathlib import Path

from farm import specs
from farm.config.loader import Cell
from farm.errors import InputError, StepFailed
from farm.plan.checks import CheckedModel, check_model, checked_by
from farm.plan.compatibility import cell_unsupported
from farm.plan.steps import export_step, step_to_build
from farm.single import onnx_file, work
from farm.store import Store
from farm.store.facts import facts_from


def checked(model: specs.Model, store: Store, retry_failed: bool) -> CheckedModel[specs.Model]:
    """The model as a sweep's plan has it in its keys; checked now, unless the store knows it.

    What fails in the check, without a data set, fails again, with its reason, in the step that the
    model is for. Raises InputError.
    """
    values, facts = specs.CheckInputs(model, None), facts_from(store)
    found = check_model(model, values, facts)
    if found.facts is not None and not (retry_failed and store.failure(found.step.key)):
        return found
    with contextlib.suppress(StepFailed):
        work.carry_out(found.step, store, retry_failed)
    return checked_by(model, found.step, facts_from(store)(found.step.key))


def exported(
    model: CheckedModel[specs.Model], values: specs.ExportInputs, store: Store, retry_failed: bool
) -> Path:
    """The folder of the model's ONNX file. Raises as `work.carry_out`."""
    label = f"{values.model.name} op{values.opset} {values.shape.name}"
    return work.carry_out(model.loading(export_step(label, values)), store, retry_failed)


def built(
    path: Path,
    file: specs.Ref,
    options: specs.EngineOptions,
    target: specs.Target,
    store: Store,
    retry_failed: bool,
) -> Path:
    """The folder of the engine that a runtime makes of an ONNX file.

    path, file: the ONNX file, and the artifact that it is.

    Raises:
        InputError: the runtime is not known to take this file, or not for this target.
        StepFailed, FarmError: as `work.carry_out`.
    """
    _require_supported(path, file, options, target, store)
    label = f"{path.name} {options.runtime} {options.shape.name}"
    step = step_to_build(label, file, options, target)
    return work.carry_out(step, store, retry_failed) / "engine"


def _require_supported(
    path: Path,
    file: specs.Ref,
    options: specs.EngineOptions,
    target: specs.Target,
    store: Store,
) -> None:
    """Raise InputError for what a sweep's plan refuses.

    Only the store knows that a file is a simplified one, so of a file from elsewhere nobody does.
    """
    record = store.record(file)
    simplified = bool(record and record.inputs.get("simplify"))
    cell = Cell(
        path.name, onnx_file.opset(path), options.shape.name, "graph", options.precision,
        options.runtime, options.workspace_bytes, target.name,
    )  # fmt: skip
    facts = specs.ModelFacts((), False, "")  # its suppression is the builder's to complain of
    if reason := cell_unsupported(cell, facts, options.shape, target, simplify=simplified):
        raise InputError(reason, str(path))
