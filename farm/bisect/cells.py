"""A cell to bisect: its files, its engine's options, its images and its tolerance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from farm.cli.recorded import Recorded, recorded
from farm.datasets.prepared import Prepared
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Unwatched, run_steps
from farm.engine.status import failure_reasons
from farm.errors import InputError
from farm.plan.machines import placement
from farm.specs import BuildInputs, ExportInputs, OnnxModel, Ref, VerifyInputs
from farm.stages.inference import Batch, Decoding, in_network_frame, prepared_batches

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.specs import AnyModel, Cell, EngineOptions, Environment, Target, Tolerance

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BisectedCell:
    """What is run of a cell.

    exported: its fp32 file. file: the one that its engine is built of, the same or converted.
    environment: where that runs; None for the farm's own. batches: of its first prepared images,
    in the network's frame. decoding: how outputs become boxes; None for raw outputs.
    """

    cell: Cell
    model: AnyModel
    postprocess: str
    exported: Path
    file: Path
    options: EngineOptions
    environment: Environment | None
    tolerance: Tolerance
    fp32_tolerance: Tolerance
    batches: Sequence[Batch]
    decoding: Decoding | None

    @property
    def has_pytorch(self) -> bool:
        """Whether its file was exported of a PyTorch module; else it was there."""
        return not isinstance(self.model, OnnxModel)


def find(cell: str, results: Results, sweep: str | None, images: int) -> BisectedCell:
    """Return a cell of an earlier sweep. What the store lacks of its files is made again.

    sweep: needed where several sweeps have a cell of that name. images: how many are compared.

    Raises:
        InputError: the cell or its matrix is not kept here, it has no engine, or its files cannot
            be made.
    """
    found = recorded(cell, results, sweep)
    steps = found.planned.steps
    if found.planned.refused:
        raise InputError(f"it has no engine: {found.planned.refused}", cell)
    if "build" not in steps or "verify" not in steps:
        raise InputError("PyTorch itself runs it: there is no engine to bisect", cell)
    build = found.plan.steps[steps["build"]]
    verify = found.plan.steps[steps["verify"]]
    export = found.plan.steps[steps["export"]]
    assert isinstance(build.inputs, BuildInputs) and isinstance(verify.inputs, VerifyInputs)
    assert isinstance(export.inputs, ExportInputs)
    _require_here(cell, verify.inputs.target)
    _make(found, [*build.parents, steps["export"], steps["prepare"]])
    inputs, tolerances = verify.inputs, found.matrix.spec.verify
    postprocess = inputs.engine.postprocess
    decoding = Decoding(
        inputs.classes or None, False, inputs.mask_threshold, inputs.mask_frame,
        inputs.engine.suppression,
    )  # fmt: skip
    prepared = Prepared(found.store.files(inputs.prepared))
    return BisectedCell(
        cell=found.planned.cell,
        model=export.inputs.model,
        postprocess=postprocess,
        exported=found.store.files(Ref("export", export.key)) / "model.onnx",
        file=found.store.files(build.inputs.exported) / "model.onnx",
        options=build.inputs.options,
        environment=build.environment,
        tolerance=tolerances.of(build.inputs.options.precision),
        fp32_tolerance=tolerances.of("fp32"),
        batches=_batches(prepared, build.inputs.options.shape.opt.n, images),
        decoding=None if postprocess == "none" else decoding,
    )


def _require_here(cell: str, target: Target) -> None:
    """Require the cell's accelerator; another CPU than the cell's is only told.

    Raises:
        InputError: this machine does not have it.
    """
    if target.accelerator:
        if target.accelerator not in {placement.accelerator(one.name) for one in placement.gpus()}:
            raise InputError(f"its accelerator {target.accelerator} is not on this machine", cell)
    elif target.device != (here := placement.cpu_model()):
        log.warning(f"Note: the cell is of {target.device}; this is {here}")


def _make(found: Recorded, keys: Sequence[str]) -> None:
    """Run the steps that the store lacks. Raises InputError where one of them fails."""
    steps, store = found.plan.with_ancestors(keys), found.store
    start = lambda: LocalExecutor(store, found.limits)  # noqa: E731
    outcomes = run_steps(steps, store, start, Unwatched(), limits=found.limits)
    for key, reason in failure_reasons(outcomes.values()).items():
        raise InputError(f"{steps[key].stage} failed: {reason}", found.planned.cell.id)


def _batches(prepared: Prepared, size: int, images: int) -> list[Batch]:
    """Whole batches of the first images, in the frame of the network's input."""
    found: list[Batch] = []
    for batch in in_network_frame(prepared_batches(prepared, size)):
        found.append(batch)
        if sum(len(metas) for _, metas in found) >= images:
            break
    return found
