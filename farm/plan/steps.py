"""Steps: one stage each, with its frozen inputs, its key, and what it needs of a node."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from farm import catalog, specs
from farm.parts.registry import Names
from farm.plan.content.closure import code_of
from farm.plan.content.packages import toolchain
from farm.plan.keys import step_key
from farm.specs import Cell, Ref, StageInputs

if TYPE_CHECKING:
    from farm.errors import InputError
    from farm.parts import Stage

STAGES = Names(tuple(catalog.OWN_STAGES), catalog.EXTRA_STAGES)
"""In the order of the work; then those of other packages, which run for each engine."""

HEAVY_STAGES = tuple(name for name in catalog.OWN_STAGES if name != "check")


@dataclass(frozen=True)
class Needs:
    """What a step needs of the node it runs on.

    exclusive: nothing else of the sweep runs on that node meanwhile.
    accelerator: the kind of GPU, as Ray names it; None for a CPU.
    optional: the steps before it are run even where no node has that accelerator.
    own_process: it runs in a new process that no other step has, since the user's code may end,
    block or change it.
    """

    cpus: int = 1
    exclusive: bool = False
    accelerator: str | None = None
    optional: bool = False
    own_process: bool = False


@dataclass(frozen=True)
class Step:
    """One stage with its frozen inputs; a node of the plan's graph, named by its key.

    code: the digest of the farm's own code that runs it; see `plan.content.closure`.
    environment: where its process runs; None for the environment that the farm itself runs in.
    """

    stage: str
    key: str
    label: str
    inputs: StageInputs
    toolchain: tuple[tuple[str, str], ...]
    parents: tuple[str, ...]
    needs: Needs
    code: str
    environment: specs.Environment | None = None

    @property
    def ref(self) -> Ref:
        return Ref(self.stage, self.key)


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the key of the step of each stage; `refused` says why it cannot be run.

    refused_stage: the stage that it is refused for, where that is not the export.
    """

    cell: Cell
    steps: Mapping[str, str]
    refused: str | None = None
    refused_stage: str | None = None


@dataclass(frozen=True)
class Plan:
    """Cells and the steps they share, parents first. `missing` lists the files not there.

    Where a model has not been checked yet, or not since something changed that it is made of
    (`unchecked`), the keys of its steps are provisional: which models share their prepared images
    is known only from their configs. `unfollowed`: by model, what its code did whose outcome may
    change unseen. `unmade`: runtimes whose environments are not made yet, so that the keys of
    their steps are provisional, too.
    """

    name: str
    cells: tuple[PlannedCell, ...]
    steps: Mapping[str, Step]
    missing: tuple[InputError, ...]
    unchecked: tuple[str, ...]
    unfollowed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unmade: tuple[str, ...] = ()

    def of_stage(self, stage: str) -> list[Step]:
        return [step for step in self.steps.values() if step.stage == stage]


@dataclass(frozen=True)
class Place:
    """Where a step's process runs, and which versions its packages have there."""

    environment: specs.Environment
    versions: Callable[[tuple[str, ...]], tuple[tuple[str, str], ...]]


def new_step(
    stage: str,
    label: str,
    values: StageInputs,
    packages: tuple[str, ...],
    needs: Needs,
    *parents: Step | None,
    place: Place | None = None,
) -> Step:
    """Return a step with its key, of the farm's code, the inputs and the packages as installed.

    place: its environment; None for the one that the farm runs in.
    """
    code = code_of(stage, values)
    tools = place.versions(packages) if place else toolchain(packages)
    key = step_key(stage, code, values, tools)
    keys = tuple(parent.key for parent in parents if parent)
    environment = place.environment if place else None
    return Step(stage, key, label, values, tools, keys, needs, code, environment)


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


def build_step(
    label: str,
    values: specs.BuildInputs,
    needs: Needs,
    *parents: Step,
    place: Place | None = None,
) -> Step:
    """Return the step that builds an engine."""
    packages = catalog.RUNTIMES[values.options.runtime].packages
    return new_step("build", label, values, packages, needs, *parents, place=place)


def built_for(options: specs.EngineOptions, target: specs.Target) -> specs.EngineOptions:
    """Add the compute capability of the target, for runtimes that build without the GPU."""
    if not catalog.RUNTIMES[options.runtime].compute_capabilities:
        return options
    return dataclasses.replace(options, compute_capability=target.compute_capability)


def step_to_build(
    label: str,
    exported: Ref,
    options: specs.EngineOptions,
    target: specs.Target,
    *parents: Step,
    place: Place | None = None,
) -> Step:
    """Return the step that builds an ONNX file for a target.

    It runs on the target's kind of GPU, unless the runtime builds without one.
    """
    anywhere = bool(catalog.RUNTIMES[options.runtime].compute_capabilities)
    values = specs.BuildInputs(exported, built_for(options, target), target)
    needs = _needs(False, None if anywhere else target.accelerator, False)
    return build_step(label, values, needs, *parents, place=place)


def engine_step(
    stage: Stage,
    label: str,
    values: specs.EngineInputs,
    *parents: Step | None,
    place: Place | None = None,
) -> Step:
    """Plan a stage that runs an engine, on the target of its cell."""
    runtime, target = catalog.RUNTIMES[values.engine.options.runtime], values.target
    ahead = bool(runtime.compute_capabilities)
    needs = _needs(stage.exclusive, target.accelerator, ahead)
    packages = runtime.packages + stage.packages
    return new_step(stage.name, label, values, packages, needs, *parents, place=place)


@cache
def _needs(exclusive: bool, accelerator: str | None, optional: bool) -> Needs:
    """Return the same needs each time: all steps of a plan have one of a few."""
    return Needs(exclusive=exclusive, accelerator=accelerator, optional=optional)


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
