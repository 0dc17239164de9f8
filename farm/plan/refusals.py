"""Why a cell cannot be done, as far as that is known before any heavy work."""

from __future__ import annotations

from farm import catalog
from farm.inputs import ModelFacts, Shape
from farm.matrix import Cell


def refusal(cell: Cell, facts: ModelFacts, shape: Shape, simplify: bool) -> str | None:
    """The reason, or None for a cell that can be done."""
    host = facts.refused or facts.host_refused
    of_graph = {"graph": facts.refused, "host": host, "none": facts.raw_refused}[cell.postprocess]
    return of_graph or _unfit(facts, shape) or _not_both(cell, shape, simplify)


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


def unfit_for_int8(cell: Cell, facts: ModelFacts, auto: bool) -> str | None:
    """Why a cell's file cannot be quantised."""
    if cell.precision != "int8":
        return None
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
    return None
