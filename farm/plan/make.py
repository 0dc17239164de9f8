"""Steps with their keys: what is in the key of each stage, and what it needs of a node."""

from __future__ import annotations

import dataclasses

from farm import catalog, inputs
from farm.inputs import StageInputs
from farm.plan.closure import code_of
from farm.plan.keys import step_key
from farm.plan.packages import toolchain
from farm.plan.steps import Needs, Step

EngineInputs = inputs.VerifyInputs | inputs.EvaluateInputs | inputs.MeasureInputs


def new_step(
    stage: str,
    label: str,
    values: StageInputs,
    packages: tuple[str, ...],
    needs: Needs,
    *parents: Step | None,
) -> Step:
    """The step with its key: the farm's own code, the inputs and the packages as installed."""
    code, tools = code_of(stage, values), toolchain(packages)
    key = step_key(stage, code, values, tools)
    keys = tuple(parent.key for parent in parents if parent)
    return Step(stage, key, label, values, tools, keys, needs, code)


def prepare_step(label: str, values: inputs.PrepareInputs, *parents: Step) -> Step:
    """Images are prepared one by one: profiles that differ in their batch share them."""
    values = dataclasses.replace(values, shape=_one_image(values.shape))
    return new_step("prepare", label, values, catalog.PREPARE_PACKAGES, Needs(), *parents)


def export_step(label: str, values: inputs.ExportInputs, *parents: Step) -> Step:
    """Two profiles that differ only in their bounds trace the same graph."""
    values = dataclasses.replace(values, shape=_traced(values.shape))
    packages = catalog.SOURCES[values.model.source].packages + catalog.EXPORT_PACKAGES
    packages += catalog.SIMPLIFY_PACKAGES * values.simplify
    return new_step("export", label, values, packages, Needs(), *parents)


def build_step(label: str, values: inputs.BuildInputs, needs: Needs, *parents: Step) -> Step:
    packages = catalog.RUNTIMES[values.options.runtime].packages
    return new_step("build", label, values, packages, needs, *parents)


def engine_step(stage: str, label: str, values: EngineInputs, *parents: Step | None) -> Step:
    """verify, evaluate or measure."""
    packages = catalog.RUNTIMES[values.engine.options.runtime].packages
    packages += catalog.EVALUATE_PACKAGES * (stage == "evaluate")
    accelerator = values.target.accelerator
    ahead = bool(catalog.RUNTIMES[values.engine.options.runtime].compute_capabilities)
    needs = Needs(exclusive=stage == "measure", accelerator=accelerator, optional=ahead)
    return new_step(stage, label, values, packages, needs, *parents)


def _one_image(shape: inputs.Shape) -> inputs.Shape:
    """The profile without its batch: images are prepared one by one."""
    low, opt, high = (dataclasses.replace(x, n=1) for x in (shape.min, shape.opt, shape.max))
    return inputs.Shape(shape.name, low, opt, high)


def _traced(shape: inputs.Shape) -> inputs.Shape:
    """The profile as export sees it: the traced shape, and which axes are free."""
    if not shape.dynamic:
        return shape
    opt = shape.opt
    low = dataclasses.replace(
        opt,
        n=1 if shape.dynamic_batch else opt.n,
        h=1 if shape.dynamic_size else opt.h,
        w=1 if shape.dynamic_size else opt.w,
    )
    high = dataclasses.replace(
        opt,
        n=1 << 16 if shape.dynamic_batch else opt.n,
        h=1 << 16 if shape.dynamic_size else opt.h,
        w=1 << 16 if shape.dynamic_size else opt.w,
    )
    return inputs.Shape(shape.name, low, opt, high)
