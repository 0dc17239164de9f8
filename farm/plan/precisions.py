"""Lower precisions in a plan: whose files are converted, by which settings, and which cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm import catalog, specs

if TYPE_CHECKING:
    from farm.config.schema import MatrixSpec
    from farm.plan.resolve import ResolvedInputs

_BOXES_OFF_MASKS = ("segments", "queries")
"""Kinds of `ModelFacts.mask_frame` whose boxes are computed from the masks, after the engine."""


def converts(spec: MatrixSpec, cell: specs.Cell) -> bool:
    """Return whether the farm converts the cell's file to its precision.

    It does not for fp32, nor where flags of the runtime's builder lower the precision.
    """
    runtime, options = catalog.runtime_of(cell.runtime), spec.options_of(cell.runtime)
    flags = runtime.builder_flags and options.get("builder_flags")
    return runtime.exported and cell.precision != "fp32" and not flags


def measured_by_auto(spec: MatrixSpec, inputs: ResolvedInputs) -> specs.CocoDataset | None:
    """Return the annotated calibration images on which int8's `auto` measures AP, if any.

    Their files are looked for in that case alone.
    """
    if spec.calibration is None or spec.int8.auto is None:
        return None
    images = inputs.calibration
    return images if isinstance(images, specs.CocoDataset) else None


def quantisation(
    spec: MatrixSpec,
    calibration: specs.Dataset,
    prepared: specs.Ref,
    batch: int,
    facts: specs.ModelFacts,
    suppresses: bool,
) -> specs.Quantisation:
    """Return the settings of int8 for one file.

    prepared: the calibration images. batch: images per run. suppresses: the graph has its
    suppression in it.
    """
    int8, auto = spec.int8, None
    if int8.auto is not None:
        auto = specs.Auto(
            int8.auto.max_ap_drop,
            int8.auto.min_score,
            int8.auto.images,
            not isinstance(calibration, specs.FolderDataset),
            facts.classes,
            facts.clips_boxes,
            None if suppresses else facts.suppression,
        )
    return specs.Quantisation(prepared, int8.method, int8.percentile, batch, auto)


def precision_unsupported(
    cell: specs.Cell, facts: specs.ModelFacts, auto: bool, converted: bool
) -> str | None:
    """Return why a cell's file cannot have its precision, and what to do; None where it can.

    auto: int8 keeps layers in fp32 until it loses little AP. converted: the farm makes the file of
    this precision, not the runtime's builder.
    """
    if converted and cell.precision in catalog.runtime_of(cell.runtime).by_flag:
        return (
            f"{cell.runtime} takes no {cell.precision} file; it lowers the fp32 one itself with "
            f"`runtime_options: {{{cell.runtime}: {{builder_flags: true}}}}`"
        )
    if cell.precision == "int8":
        return _int8_unsupported(cell, facts, auto, converted)
    return None


def _int8_unsupported(
    cell: specs.Cell, facts: specs.ModelFacts, auto: bool, converted: bool
) -> str | None:
    if not converted:
        return (
            "int8 by the builder's flag needs a calibration, which is not done here: leave out "
            "`builder_flags`, and the file says by itself what is int8"
        )
    opset = cell.opset or facts.opset
    if opset is not None and opset < catalog.INT8_OPSET:
        return (
            f"int8 needs opset {catalog.INT8_OPSET} or later, which has a scale for each channel; "
            f"this file's is {opset}"
        )
    if auto and cell.postprocess == "none":
        return (
            "int8 auto counts the AP that is lost, and raw outputs have none: leave out `auto`, "
            "and name layers to keep in `keep_fp32`"
        )
    if auto and facts.mask_frame in _BOXES_OFF_MASKS:
        return (
            "int8 auto counts the box AP that is lost, and this model's boxes are read off its "
            "masks, after the engine: leave out `auto`, and name layers to keep in `keep_fp32`"
        )
    return None
