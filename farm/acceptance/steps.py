"""The steps that a pack leaves to do, as a sweep on this machine would plan them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from farm import specs
from farm.acceptance.contents import Pack, PackedCell
from farm.catalog import RUNTIMES
from farm.config.loader import Cell
from farm.plan import Needs, PlannedCell, Step
from farm.plan.placement import cores
from farm.plan.steps import build_step, engine_step
from farm.specs import EngineOptions, Target


@dataclass(frozen=True)
class Place:
    """Where the steps run. runtime: in place of the pack's own; None keeps that. cache: a folder
    for what makes builds faster."""

    target: Target
    runtime: str | None = None
    cache: str = "cache/"


@dataclass(frozen=True)
class Work:
    """A cell and its steps from the build on, in order; none where it is refused."""

    planned: PlannedCell
    steps: tuple[Step, ...]

    @property
    def cell(self) -> Cell:
        return self.planned.cell


def remaining(pack: Pack, place: Place) -> list[Work]:
    """Breadth first: every model once; then what differs in one axis, the precision, the shape or
    the workspace; then in two, and so on."""
    works = {work.cell.id: work for work in _works(pack, place)}
    ranks = {
        axis: _ranks(getattr(work.cell, axis) for work in works.values())
        for axis in ("workspace_bytes", "shape", "precision", "opset", "postprocess", "model")
    }

    def order(work: Work) -> tuple[int, list[int]]:
        places = [rank[getattr(work.cell, axis)] for axis, rank in ranks.items()]
        return sum(place > 0 for place in places[:3]), places

    return sorted(works.values(), key=order)


def _ranks(values: Iterator[object]) -> dict[object, int]:
    return {value: rank for rank, value in enumerate(dict.fromkeys(values))}


def _works(pack: Pack, place: Place) -> Iterator[Work]:
    """The cells of this target; of the first one where the matrix does not know it."""
    names = [one.cell.target for one in pack.cells]
    of = place.target.name if place.target.name in names else next(iter(names), None)
    for packed in pack.cells:
        if packed.cell.target == of and (cell := _cell(packed, place)):
            yield _work(packed, cell, place, pack.threads)


def _cell(packed: PackedCell, place: Place) -> Cell | None:
    """None where there is no file for it: an fp32 one that the pack's own runtime was to lower by
    a builder's flag is none of lower precision for another runtime."""
    cell = packed.cell
    name = place.runtime or cell.runtime
    runtime = RUNTIMES[name]
    lowered = cell.precision == "fp32" or "convert" in packed.done or name == cell.runtime
    if cell.precision not in runtime.precisions or not lowered:
        return None
    workspace = cell.workspace_bytes if runtime.workspaces else None
    ends_at = cell.postprocess if runtime.cuts else "graph"
    return replace(
        cell,
        runtime=name,
        workspace_bytes=workspace,
        postprocess=ends_at,
        target=place.target.name,
    )


def _work(packed: PackedCell, cell: Cell, place: Place, threads: int | None) -> Work:
    if packed.build is None or packed.verify is None or packed.measure is None:
        return Work(PlannedCell(cell, packed.done, packed.refused), ())
    target, options = place.target, _options(packed.build.options, cell, place)
    needs = Needs(accelerator=target.accelerator)
    build = build_step(cell.id, replace(packed.build, options=options, target=target), needs)
    engine = replace(packed.verify.engine, options=options, built=build.ref)
    if not RUNTIMES[cell.runtime].cuts:
        engine = replace(engine, postprocess="graph", suppression=None)
    verify = replace(packed.verify, engine=engine, target=target)
    measure = replace(packed.measure, engine=engine, target=target, threads=threads or cores())
    steps = [build, engine_step("verify", cell.id, verify, build)]
    steps.append(engine_step("measure", cell.id, measure, build))
    if packed.evaluate is not None:
        evaluate = replace(packed.evaluate, engine=engine, target=target)
        steps.append(engine_step("evaluate", cell.id, evaluate, build))
    keys = {**packed.done, **{step.stage: step.key for step in steps}}
    return Work(PlannedCell(cell, keys), tuple(steps))


def _options(options: EngineOptions, cell: Cell, place: Place) -> EngineOptions:
    """Another runtime does not know the options of the pack's own; places are this machine's."""
    if cell.runtime != options.runtime:
        return replace(
            options, runtime=cell.runtime, workspace_bytes=cell.workspace_bytes, options=()
        )
    if RUNTIMES[cell.runtime].compute_capabilities:
        options = replace(options, compute_capability=place.target.compute_capability)
    own = dict(options.options)
    if "timing_cache" in own:
        own["timing_cache"] = specs.Place(place.cache)
    return replace(options, options=tuple(sorted(own.items())))
