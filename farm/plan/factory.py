"""Make steps: from a stage's inputs to its key, and what it needs of a node."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm import catalog, specs
from farm.plan.content.closure import code_for, code_of
from farm.plan.content.packages import toolchain
from farm.plan.keys import key_maker
from farm.plan.steps import Needs, Step

if TYPE_CHECKING:
    from farm.parts import Stage
    from farm.runtimes.base import Runtime
    from farm.specs import Ref, StageInputs


@dataclass(frozen=True)
class Place:
    """Where a step's process runs, and which versions its packages have there."""

    environment: specs.Environment
    versions: Callable[[tuple[str, ...]], tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Setting:
    """What steps have in common that differ in their inputs alone; see `Step` for the fields.

    key: makes the key of such a step from its inputs.
    """

    stage: str
    code: str
    toolchain: tuple[tuple[str, str], ...]
    needs: Needs
    environment: specs.Environment | None
    key: Callable[[StageInputs], str]

    def step(self, label: str, values: StageInputs, parents: tuple[str, ...]) -> Step:
        """Return a step with its key. parents: the keys of the steps that it reads."""
        return Step(
            self.stage, self.key(values), label, values, self.toolchain, parents, self.needs,
            self.code, self.environment,
        )  # fmt: skip


def setting(
    stage: str, code: str, packages: tuple[str, ...], needs: Needs, place: Place | None = None
) -> Setting:
    """Return the setting of steps with this code and these packages, as they are installed.

    place: their environment; None for the one that the farm runs in.
    """
    tools = place.versions(packages) if place else toolchain(packages)
    environment = place.environment if place else None
    return Setting(stage, code, tools, needs, environment, key_maker(stage, code, tools))


def new_step(
    stage: str, label: str, values: StageInputs, packages: tuple[str, ...], needs: Needs,
    *parents: Step,
) -> Step:  # fmt: skip
    """Return a step in the environment that the farm runs in."""
    own = setting(stage, code_of(stage, values), packages, needs)
    return own.step(label, values, tuple(parent.key for parent in parents))


def prepare_step(label: str, values: specs.PrepareInputs, *parents: Step) -> Step:
    """Return the step that prepares images, which profiles share that differ in their batch."""
    values = dataclasses.replace(values, shape=one_image(values.shape))
    preparer, dataset = catalog.preparer_of(values.pipeline), catalog.DATASETS[values.dataset.type]
    packages = preparer.packages + dataset.packages
    return new_step("prepare", label, values, packages, Needs(), *parents)


def export_step(label: str, values: specs.ExportInputs, *parents: Step) -> Step:
    """Return the step that exports, which profiles share that differ in their bounds alone."""
    values = dataclasses.replace(values, shape=traced(values.shape))
    packages = catalog.SOURCES[values.model.source].packages + catalog.OWN_STAGES["export"].packages
    packages += catalog.SIMPLIFY_PACKAGES * values.simplify
    return new_step("export", label, values, packages, Needs(), *parents)


def built_for(options: specs.EngineOptions, target: specs.Target) -> specs.EngineOptions:
    """Add the compute capability of the target, for runtimes that build without the GPU."""
    if not catalog.RUNTIMES[options.runtime].compute_capabilities:
        return options
    return dataclasses.replace(options, compute_capability=target.compute_capability)


def build_setting(runtime: Runtime, target: specs.Target, place: Place | None = None) -> Setting:
    """Return the setting of the steps that build a runtime's engines for a target.

    They run on the target's kind of GPU, unless the runtime builds without one.
    """
    anywhere = bool(runtime.compute_capabilities)
    needs = Needs(accelerator=None if anywhere else target.accelerator)
    code = code_for("build", runtime=runtime.name)
    return setting("build", code, runtime.packages, needs, place)


def step_to_build(
    label: str, exported: Ref, options: specs.EngineOptions, target: specs.Target, *parents: Step
) -> Step:
    """Return the step that builds an ONNX file for a target."""
    values = specs.BuildInputs(exported, built_for(options, target), target)
    own = build_setting(catalog.RUNTIMES[options.runtime], target)
    return own.step(label, values, tuple(parent.key for parent in parents))


def engine_setting(
    stage: Stage,
    runtime: Runtime,
    target: specs.Target,
    source: str | None = None,
    place: Place | None = None,
) -> Setting:
    """Return the setting of a stage that runs a runtime's engines, on the target of their cells.

    source: of the model, where the runtime runs that itself.
    """
    needs = Needs(
        exclusive=stage.exclusive,
        accelerator=target.accelerator,
        shares_gpu=stage.shares_gpu and target.accelerator is not None,
        optional=bool(runtime.compute_capabilities),
    )
    code = code_for(stage.name, source=source, runtime=runtime.name)
    return setting(stage.name, code, runtime.packages + stage.packages, needs, place)


def one_image(shape: specs.Shape) -> specs.Shape:
    """Return the profile without its batch: images are prepared one by one."""
    low, opt, high = (dataclasses.replace(x, n=1) for x in (shape.min, shape.opt, shape.max))
    return specs.Shape(shape.name, low, opt, high)


def traced(shape: specs.Shape) -> specs.Shape:
    """Return the profile as export sees it: the traced shape, and which axes are free."""
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
    return specs.Shape(shape.name, low, opt, high)
