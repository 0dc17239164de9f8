"""Why a cell cannot be done, as far as that is known before any heavy work."""

from __future__ import annotations

from dataclasses import replace

from farm import catalog
from farm.config.loader import Cell
from farm.plan.packages import version
from farm.specs import ModelFacts, Shape, Sizes, Target
from farm.units import Dims

_BOXES_OFF_MASKS = ("segments", "queries")
"""Kinds of `ModelFacts.mask_frame` whose boxes stand around the pasted masks."""


def unfit(facts: ModelFacts, shape: Shape, profiles: bool) -> str | None:
    """Why the shape cannot be used, with the nearest sizes that can; None where it can.

    profiles: the runtime builds for the bounds of a dynamic shape too. To other runtimes they are
    bounds of the prepared images only, whose own sizes `prepare` looks at.
    """
    network = "the network takes as heights and widths"
    if not shape.dynamic_size:
        padding = "the test pipeline pads to heights and widths that are"
        rules = ((network, facts.sizes), (padding, facts.padded_to))
        reasons = [_reason(shape, "opt", shape.opt, does, sizes) for does, sizes in rules]
    else:
        ends = ("min", "opt", "max") if profiles else ("opt",)
        reasons = [_reason(shape, e, getattr(shape, e), network, facts.sizes) for e in ends]
    return next(filter(None, reasons), None)


def _reason(shape: Shape, end: str, asked: Dims, does: str, sizes: Sizes | None) -> str | None:
    if sizes is None or sizes.fit(asked.h, asked.w):
        return None
    nearest = [f"{h}x{w}" for h, w in sizes.nearest(asked.h, asked.w)]
    are = "is" if len(nearest) == 1 else "are"
    return (
        f"{does} {sizes}, and {end} of shape {shape.name} is {asked.h}x{asked.w} (HxW); the nearest"
        f" {are} {' and '.join(nearest)}"
    )


def refusal(
    cell: Cell, facts: ModelFacts, shape: Shape, target: Target, simplify: bool
) -> str | None:
    """The reason, or None for a cell that can be done."""
    host = facts.refused or facts.host_refused
    of_graph = {"graph": facts.refused, "host": host, "none": facts.raw_refused}[cell.postprocess]
    return (
        of_graph
        or _unfit(facts, shape)
        or unfit(facts, shape, catalog.RUNTIMES[cell.runtime].profiles)
        or _not_both(cell, shape, simplify)
        or _not_built_for(cell, target)
        or _not_read(cell, facts)
        or _not_suppressed(cell, facts)
    )


def _unfit(facts: ModelFacts, shape: Shape) -> str | None:
    """A ready model takes the shapes it was made for, and no others."""
    low, high = shape.min.as_tuple(), shape.max.as_tuple()
    axes = facts.input_shape or (None,) * 4
    triples = list(zip(axes, low, high, strict=True))
    if all(axis is None or axis == a == b for axis, a, b in triples):
        return None
    takes = "x".join(str(axis or "?") for axis in axes)
    asked = str(shape.min) if shape.min == shape.max else f"{shape.min} to {shape.max}"
    return f"the model takes {takes} (NxCxHxW), and shape {shape.name} asks for {asked}"


def _not_both(cell: Cell, shape: Shape, simplify: bool) -> str | None:
    runtime = catalog.RUNTIMES[cell.runtime]
    if simplify and shape.dynamic and runtime.exported and not runtime.simplified_dynamic:
        return (
            f"{cell.runtime} is not known to take a simplified model with dynamic shapes: "
            "leave out `simplify`, or use a fixed shape"
        )
    return None


def _not_built_for(cell: Cell, target: Target) -> str | None:
    built_for = catalog.RUNTIMES[cell.runtime].compute_capabilities
    if not built_for or target.compute_capability in built_for:
        return None
    return (
        f"{cell.runtime} builds for compute capability {', '.join(built_for)}, and target "
        f"{target.name} ({target.device}) has {target.compute_capability}"
    )


def _not_read(cell: Cell, facts: ModelFacts) -> str | None:
    """The opset of a ready file is its own."""
    runtime, opset = catalog.RUNTIMES[cell.runtime], cell.opset or facts.opset
    if not runtime.exported or opset is None:
        return None
    found = version(runtime.packages[0]) if runtime.packages else ""
    for begins, most in runtime.max_opsets:
        if found.startswith(begins) and opset > most:
            return f"{cell.runtime} {found} reads opsets up to {most}, not {opset}"
    return None


def fitting(cell: Cell, facts: ModelFacts) -> Cell:
    """The cell, or where its runtime has no suppression the one that suppresses on the host: its
    name and the tables then say so."""
    if not _cannot_suppress(cell, facts) or facts.host_refused:
        return cell
    return replace(cell, postprocess="host")


def _not_suppressed(cell: Cell, facts: ModelFacts) -> str | None:
    if not _cannot_suppress(cell, facts):
        return None
    return (
        f"{cell.runtime} has no NonMaxSuppression, and this model's cannot run on the host "
        "instead: use postprocess: none"
    )


def _cannot_suppress(cell: Cell, facts: ModelFacts) -> bool:
    if cell.postprocess != "graph" or catalog.RUNTIMES[cell.runtime].suppresses:
        return False
    return bool(facts.suppression or facts.host_refused)


def unfit_for_precision(cell: Cell, facts: ModelFacts, auto: bool, converts: bool) -> str | None:
    """Why a cell's file cannot be lowered; `converts`: by the farm, not the runtime's builder."""
    if converts and cell.precision in catalog.RUNTIMES[cell.runtime].by_flag:
        return (
            f"{cell.runtime} takes no {cell.precision} file; it lowers the fp32 one itself with "
            f"`runtime_options: {{{cell.runtime}: {{builder_flags: true}}}}`"
        )
    if cell.precision == "int8":
        return _unfit_for_int8(cell, facts, auto, converts)
    return None


def _unfit_for_int8(cell: Cell, facts: ModelFacts, auto: bool, converts: bool) -> str | None:
    if not converts:
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
