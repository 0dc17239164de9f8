"""Whether cells, shapes, steps and GPUs go together: the reason why not, or None.

Planning refuses a cell by what is known before any heavy work; the engine keeps a step away from a
machine that cannot run it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from farm import catalog
from farm.plan.content.packages import version
from farm.plan.placement import Machine, stands_for
from farm.plan.precisions import precision_unsupported

if TYPE_CHECKING:
    from farm.plan.steps import Step
    from farm.specs import Cell, Gpu, ModelFacts, Shape, Sizes, Target
    from farm.units import Dims

Reason = str | None
"""Why something cannot be done, and what to do instead; None where it can be done."""


# Machines -----------------------------------------------------------------------------------


def step_unsupported(step: Step, machine: Machine) -> Reason:
    """Return why this machine cannot do the step as it was planned.

    The key of a step names versions of packages and a processor or a GPU.
    """
    return (
        accelerator_unsupported(step, machine)
        or _room_unsupported(step, machine)
        or _versions_unsupported(step, machine)
        or _target_unsupported(step, machine)
    )


def accelerator_unsupported(step: Step, machine: Machine) -> Reason:
    """Return why the machine lacks the kind of GPU that the step needs."""
    wanted, there = step.needs.accelerator, machine.accelerators
    if not wanted or there is None or wanted in there:
        return None
    return f"node {machine.host} has {', '.join(there) or 'no accelerator'}"


def _room_unsupported(step: Step, machine: Machine) -> Reason:
    if step.needs.accelerator and machine.gpu_count < 1:
        return f"node {machine.host} gives Ray no GPU (`ray start --num-gpus`)"
    if machine.cpus < step.needs.cpus:
        return f"node {machine.host} has {machine.cpus:g} CPUs"
    if not machine.sees_store:
        return f"node {machine.host} does not see the store: it needs a shared file system"
    return None


def _versions_unsupported(step: Step, machine: Machine) -> Reason:
    if (step.environment.digest if step.environment else "") != machine.environment:
        return None  # the step's own process compares them, in its environment
    if step.environment and step.environment.image:
        return None
    for name, planned in step.toolchain:
        if (here := machine.versions.get(name)) != planned:
            return (
                f"node {machine.host} has {name} {here}, the plan was made with {planned}: "
                "install the same version on both"
            )
    return None


def _target_unsupported(step: Step, machine: Machine) -> Reason:
    target = getattr(step.inputs, "target", None)
    if target is None:
        return None
    if not target.accelerator and target.device != machine.device:
        return (
            f"node {machine.host} is {machine.device}, target {target.name} is {target.device}: "
            "name the processor as `device` of a target of its own"
        )
    if step.needs.accelerator and machine.gpus:
        reasons = [gpu_unsupported(target, gpu) for gpu in machine.gpus]
        if None not in reasons:
            return f"node {machine.host} {reasons[0]}: give these to a target of its own"
    return None


def gpu_unsupported(target: Target, gpu: Gpu) -> Reason:
    """Return why the GPU is not what the target stands for."""
    if stands_for(target, gpu):
        return None
    return (
        f"has {gpu}, and target {target.name} is {target.device} ({target.compute_capability}, "
        f"driver {target.driver})"
    )


# Cells --------------------------------------------------------------------------------------


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
    host = facts.refused or facts.host_refused
    of_graph = {"graph": facts.refused, "host": host, "none": facts.raw_refused}[cell.postprocess]
    return (
        of_graph
        or _input_unsupported(facts, shape)
        or shape_unsupported(facts, shape, catalog.runtime_of(cell.runtime).profiles)
        or _simplified_unsupported(cell, shape, simplify)
        or _capability_unsupported(cell, target)
        or _opset_unsupported(cell, facts, release)
        or _suppression_unsupported(cell, facts)
        or precision_unsupported(cell, facts, auto, converts)
    )


def shape_unsupported(facts: ModelFacts, shape: Shape, profiles: bool) -> Reason:
    """Return why the shape cannot be used, with the nearest sizes that can.

    profiles: the runtime builds for the bounds of a dynamic shape, too. For other runtimes they
    only limit the prepared images, whose sizes `prepare` checks.
    """
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
    low, high = shape.min.as_tuple(), shape.max.as_tuple()
    axes = facts.input_shape or (None,) * 4
    triples = list(zip(axes, low, high, strict=True))
    if all(axis is None or axis == a == b for axis, a, b in triples):
        return None
    takes = "x".join(str(axis or "?") for axis in axes)
    extent = str(shape.min) if shape.min == shape.max else f"{shape.min} to {shape.max}"
    return f"the model takes {takes} (NxCxHxW), and shape {shape.name} asks for {extent}"


def _simplified_unsupported(cell: Cell, shape: Shape, simplify: bool) -> Reason:
    runtime = catalog.runtime_of(cell.runtime)
    if simplify and shape.dynamic and runtime.exported and not runtime.simplified_dynamic:
        return (
            f"{cell.runtime} is not known to take a simplified model with dynamic shapes: "
            "leave out `simplify`, or use a fixed shape"
        )
    return None


def _capability_unsupported(cell: Cell, target: Target) -> Reason:
    built_for = catalog.runtime_of(cell.runtime).compute_capabilities
    if not built_for or target.compute_capability in built_for:
        return None
    return (
        f"{cell.runtime} builds for compute capability {', '.join(built_for)}, and target "
        f"{target.name} ({target.device}) has {target.compute_capability}"
    )


def _opset_unsupported(cell: Cell, facts: ModelFacts, release: str | None) -> Reason:
    """Return why the runtime does not read the opset: the cell's, or a ready file's own."""
    runtime, opset = catalog.runtime_of(cell.runtime), cell.opset or facts.opset
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
    if not _cannot_suppress(cell, facts) or facts.host_refused:
        return cell
    return replace(cell, postprocess="host")


def _suppression_unsupported(cell: Cell, facts: ModelFacts) -> Reason:
    if not _cannot_suppress(cell, facts):
        return None
    return (
        f"{cell.runtime} has no NonMaxSuppression, and this model's cannot run on the host "
        "instead: use postprocess: none"
    )


def _cannot_suppress(cell: Cell, facts: ModelFacts) -> bool:
    if cell.postprocess != "graph" or catalog.runtime_of(cell.runtime).suppresses:
        return False
    return bool(facts.suppression or facts.host_refused)
