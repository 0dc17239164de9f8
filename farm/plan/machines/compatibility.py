"""Whether a cell's model, shape, precision, runtime and target go together: the reason why not, or
None, by what is known before any heavy work."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from farm import catalog
from farm.plan.content.packages import version
from farm.plan.precisions import precision_unsupported

if TYPE_CHECKING:
    from farm.runtimes.base import Runtime
    from farm.specs import Cell, Dims, ModelFacts, Shape, Sizes, Target

Reason = str | None
"""Why something cannot be done, and what to do instead; None where it can be done."""


def cell_unsupported(
    cell: Cell,
    facts: ModelFacts,
    shape: Shape,
    target: Target,
    *,
    simplify: bool,
    converts: bool = False,
    auto: bool = False,
    release: str | None = None,
) -> Reason:
    """Return why the cell cannot be done, as far as that is known before any heavy work.

    converts: the farm makes the file of its precision, not the runtime's builder. auto: int8 keeps
    layers in fp32 until it loses little AP. release: of the runtime's package; '' where it is not
    known, None for the one that is installed here.
    """
    runtime, host = catalog.runtime_of(cell.runtime), facts.refused or facts.host_refused
    of_graph = {"graph": facts.refused, "host": host, "none": facts.raw_refused}[cell.postprocess]
    return (
        of_graph
        or _input_unsupported(facts, shape)
        or shape_unsupported(facts, shape, runtime.profiles)
        or _simplified_unsupported(cell, runtime, shape, simplify)
        or _capability_unsupported(cell, runtime, target)
        or _opset_unsupported(cell, runtime, facts, release)
        or _suppression_unsupported(cell, runtime, facts)
        or precision_unsupported(cell, facts, auto, converts)
    )


def shape_unsupported(facts: ModelFacts, shape: Shape, profiles: bool) -> Reason:
    """Return why the shape cannot be used, with the nearest sizes that can.

    profiles: the runtime builds for the bounds of a dynamic shape, too. For other runtimes they
    only limit the prepared images, whose sizes `prepare` checks.
    """
    if facts.sizes is None and facts.padded_to is None:
        return None
    network = "the network takes as heights and widths"
    if not shape.dynamic_size:
        padding = "the test pipeline pads to heights and widths that are"
        rules = ((network, facts.sizes), (padding, facts.padded_to))
        reasons = [_size_reason(shape, "opt", shape.opt, does, sizes) for does, sizes in rules]
    else:
        ends = ("min", "opt", "max") if profiles else ("opt",)
        reasons = [_size_reason(shape, e, getattr(shape, e), network, facts.sizes) for e in ends]
    return next(filter(None, reasons), None)


def _size_reason(shape: Shape, end: str, dims: Dims, does: str, sizes: Sizes | None) -> Reason:
    if sizes is None or sizes.fit(dims.h, dims.w):
        return None
    nearest = [f"{h}x{w}" for h, w in sizes.nearest(dims.h, dims.w)]
    are = "is" if len(nearest) == 1 else "are"
    return (
        f"{does} {sizes}, and {end} of shape {shape.name} is {dims.h}x{dims.w} (HxW); the nearest"
        f" {are} {' and '.join(nearest)}"
    )


def _input_unsupported(facts: ModelFacts, shape: Shape) -> Reason:
    """Return why a ready model, whose input is fixed in its file, does not take the shape."""
    if not (axes := facts.input_shape):
        return None
    low, high = shape.min.as_tuple(), shape.max.as_tuple()
    triples = list(zip(axes, low, high, strict=True))
    if all(axis is None or axis == a == b for axis, a, b in triples):
        return None
    takes = "x".join(str(axis or "?") for axis in axes)
    extent = str(shape.min) if shape.min == shape.max else f"{shape.min} to {shape.max}"
    return f"the model takes {takes} (NxCxHxW), and shape {shape.name} asks for {extent}"


def _simplified_unsupported(cell: Cell, runtime: Runtime, shape: Shape, simplify: bool) -> Reason:
    if simplify and shape.dynamic and runtime.exported and not runtime.simplified_dynamic:
        return (
            f"{cell.runtime} is not known to take a simplified model with dynamic shapes: "
            "leave out `simplify`, or use a fixed shape"
        )
    return None


def _capability_unsupported(cell: Cell, runtime: Runtime, target: Target) -> Reason:
    built_for = runtime.compute_capabilities
    if not built_for or target.compute_capability in built_for:
        return None
    return (
        f"{cell.runtime} builds for compute capability {', '.join(built_for)}, and target "
        f"{target.name} ({target.device}) has {target.compute_capability}"
    )


def _opset_unsupported(
    cell: Cell, runtime: Runtime, facts: ModelFacts, release: str | None
) -> Reason:
    """Return why the runtime does not read the opset: the cell's, or a ready file's own."""
    opset = cell.opset or facts.opset
    if not runtime.exported or opset is None:
        return None
    if release is None:
        release = version(runtime.packages[0]) if runtime.packages else ""
    for begins, most in runtime.max_opsets:
        if release.startswith(begins) and opset > most:
            return f"{cell.runtime} {release} reads opsets up to {most}, not {opset}"
    return None


def with_host_suppression(cell: Cell, facts: ModelFacts) -> Cell:
    """Return the cell, with suppression on the host where its runtime has none.

    The name of the cell and the tables then show that.
    """
    runtime = catalog.runtime_of(cell.runtime)
    if facts.host_refused or not _cannot_suppress(cell, runtime, facts):
        return cell
    return replace(cell, postprocess="host")


def _suppression_unsupported(cell: Cell, runtime: Runtime, facts: ModelFacts) -> Reason:
    if not _cannot_suppress(cell, runtime, facts):
        return None
    return (
        f"{cell.runtime} has no NonMaxSuppression, and this model's cannot run on the host "
        "instead: use postprocess: none"
    )


def _cannot_suppress(cell: Cell, runtime: Runtime, facts: ModelFacts) -> bool:
    if cell.postprocess != "graph" or runtime.suppresses:
        return False
    return bool(facts.suppression or facts.host_refused)
