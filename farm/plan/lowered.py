"""What a matrix says of precisions below fp32, as the inputs of `check` and `convert`."""

from __future__ import annotations

from farm import catalog, inputs
from farm.matrix import Cell
from farm.matrix.schema import MatrixSpec
from farm.plan.given import Given


def converts(spec: MatrixSpec, cell: Cell) -> bool:
    """fp32 files are left as they are, and so are those that the builder lowers itself."""
    runtime, options = catalog.RUNTIMES[cell.runtime], spec.runtime_options
    flags = runtime.builder_flags and options.get(cell.runtime, {}).get("builder_flags")
    return runtime.exported and cell.precision != "fp32" and not flags


def measured_by_auto(spec: MatrixSpec, given: Given) -> inputs.CocoDataset | None:
    """The matrix's own annotated calibration images, where int8's `auto` holds them against the
    model; looked for there only."""
    if spec.calibration is None or spec.int8.auto is None:
        return None
    own = given.calibration
    return own if isinstance(own, inputs.CocoDataset) else None


def quantisation(
    spec: MatrixSpec,
    calibration: inputs.Dataset,
    prepared: inputs.Ref,
    batch: int,
    facts: inputs.ModelFacts,
    whole: bool,
) -> inputs.Quantisation:
    """prepared: the calibration images. whole: the graph has its suppression in it."""
    own, auto = spec.int8, None
    if own.auto is not None:
        auto = inputs.Auto(
            own.auto.max_ap_drop,
            own.auto.min_score,
            own.auto.images,
            not isinstance(calibration, inputs.FolderDataset),
            facts.classes,
            facts.clips_boxes,
            None if whole else facts.suppression,
        )
    return inputs.Quantisation(prepared, own.method, own.percentile, batch, auto)
