"""From a matrix to a plan: the steps of each cell, of which equal ones become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from farm import catalog, specs
from farm.parts import EngineRun, Stage
from farm.plan import compatibility, precisions
from farm.plan.checks import CheckedModel, Facts, check_model, checked_by
from farm.plan.content import dependencies
from farm.plan.placement import cores
from farm.plan.resolve import ResolvedInputs
from farm.plan.steps import (
    Needs,
    Plan,
    PlannedCell,
    Step,
    built_for,
    engine_step,
    export_step,
    new_step,
    one_image,
    prepare_step,
    step_to_build,
    traced,
)

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.specs import Cell

RAW_IMAGES = 2
"""How many images are compared by their raw outputs, which are large and hold many values."""

Made = TypeVar("Made")


class Planner:
    """Makes one plan; see `farm.plan.make_plan`. It keeps what cells have in common."""

    def __init__(self, matrix: Matrix, facts: Facts, just_checked: Mapping[str, Step]) -> None:
        self.matrix, self.spec = matrix, matrix.spec
        self.known_facts, self.just_checked = facts, just_checked
        self.inputs = ResolvedInputs(matrix)
        self.models, self.shapes = self.inputs.models, self.inputs.shapes
        self.steps: dict[str, Step] = {}
        self.facts: dict[str, specs.ModelFacts] = {}
        self.unchecked: list[str] = []
        self.checked: dict[str, CheckedModel[specs.AnyModel]] = {}
        self._in_int8 = {cell.model for cell in matrix.cells if cell.precision == "int8"}
        self._made: dict[tuple[str, tuple[Any, ...]], Any] = {}
        self._refs: dict[str, specs.Ref] = {}
        self._prepared_as = _first_alike(self.shapes, one_image)
        self._traced_as = _first_alike(self.shapes, traced)
        self._engine_stages = catalog.engine_stages()
        self._threads = self.spec.measure.threads or cores()

    def plan(self) -> Plan:
        """Return the plan of all cells."""
        names = dict.fromkeys(cell.model for cell in self.matrix.cells)
        checks = {name: self._check(name) for name in names}
        wanted = (
            compatibility.with_host_suppression(cell, self.facts[cell.model])
            for cell in self.matrix.cells
        )
        cells = tuple(self._cell(cell, checks[cell.model]) for cell in dict.fromkeys(wanted))
        found = ((name, dependencies.unfollowed(one.used)) for name, one in self.facts.items())
        unfollowed = {name: tuple(texts) for name, texts in found if texts}
        problems = tuple(self.inputs.missing), tuple(self.unchecked), unfollowed
        unmade = self.inputs.environments.unmade
        return Plan(self.matrix.name, cells, self.steps, *problems, unmade)

    def _add(self, step: Step) -> Step:
        """Return the step of the plan that equals this one: an earlier one, or itself."""
        return self.steps.setdefault(step.key, step)

    def _ref(self, shared: Step) -> specs.Ref:
        """Return the same reference each time to a step that many others read."""
        return self._refs.get(shared.key) or self._refs.setdefault(shared.key, shared.ref)

    def _add_loading(self, model: str, step: Step) -> Step:
        """As `_add`, for a step that loads the model."""
        return self._add(self.checked[model].loading(step))

    def _check(self, name: str) -> Step:
        model = self.models[name]
        in_int8 = name in self._in_int8
        measured = precisions.measured_by_auto(self.spec, self.inputs) if in_int8 else None
        labels = self.inputs.labels.get(name, ())
        values = specs.CheckInputs(model, self.inputs.dataset, measured, labels=labels)
        if just_checked := self.just_checked.get(name):
            checked = checked_by(model, just_checked, self.known_facts(just_checked.key))
        else:
            checked = check_model(model, values, self.known_facts)
        step, facts = self._add(checked.step), checked.facts
        self.checked[name], self.models[name] = checked, checked.model
        if facts is None:
            self.unchecked.append(name)
            facts = specs.ModelFacts((), False, f"unknown until checked: {step.key}")
        self.facts[name] = facts
        return step

    def _cell(self, cell: Cell, check: Step) -> PlannedCell:
        facts, converts = self.facts[cell.model], precisions.converts(self.spec, cell)
        environments = self.inputs.environments
        reason = compatibility.cell_unsupported(
            cell,
            facts,
            self.shapes[cell.shape],
            self.inputs.targets[cell.target],
            simplify=self._simplifies(cell),
            converts=converts,
            auto=self.spec.int8.auto is not None,
            release=environments.release(cell.runtime),
        )
        if reason:
            return PlannedCell(cell, {"check": check.key}, reason)
        if reason := environments.refused(cell.runtime):
            return PlannedCell(cell, {"check": check.key}, reason, "build")
        steps = self._of_file(cell, check, converts)
        self._add_engine(cell, steps)
        return PlannedCell(cell, {stage: step.key for stage, step in steps.items()})

    def _of_file(self, cell: Cell, check: Step, converts: bool) -> dict[str, Step]:
        """Return the steps up to the file that an engine is made of, which cells share."""
        # Profiles that differ in what a stage does not look at share its steps.
        prepared = cell.model, self._prepared_as[cell.shape], cell.postprocess
        file = cell.model, self._traced_as[cell.shape], cell.postprocess, cell.opset
        batch = self.shapes[cell.shape].min.n
        steps = {"check": check}
        steps["prepare"] = self._once(
            "prepare", prepared[:2], lambda: self._prepare(cell, check, self.inputs.dataset)
        )
        steps["reference"] = self._once(
            "reference",
            (*prepared, batch if cell.postprocess == "none" else None),
            lambda: self._reference(cell, steps["prepare"]),
        )
        if catalog.runtime_of(cell.runtime).exported:
            steps["export"] = self._once("export", file, lambda: self._export(cell, check))
        if converts:
            steps["convert"] = self._once(
                "convert",
                (*file, *prepared, batch, cell.precision),
                lambda: self._convert(cell, steps["export"], check),
            )
        return steps

    def _add_engine(self, cell: Cell, steps: dict[str, Step]) -> None:
        """Add the steps that build and run the engine of a cell: all stages run the same one."""
        label, target = cell.id, self.inputs.targets[cell.target]
        options, exported = self._options(cell), catalog.runtime_of(cell.runtime).exported
        place = self.inputs.environments.place(cell.runtime)
        if exported:
            file = steps.get("convert") or steps["export"]
            build = step_to_build(label, self._ref(file), options, target, file, place=place)
            steps["build"] = self._add(build)
        run = EngineRun(
            self._engine(cell, options, steps.get("build")),
            self._ref(steps["prepare"]),
            self._ref(steps["reference"]),
            self.facts[cell.model],
            target,
            self.spec.measure,
            self._threads,
        )
        for name, stage in self._engine_stages.items():
            takes_outputs = stage.raw_outputs or cell.postprocess != "none"
            if takes_outputs and (stage.eager or exported):
                steps[name] = self._run(stage, cell, label, run, steps)

    def _once(self, kind: str, of: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        """Make what cells with the same values `of` share, for the first of them."""
        if (kind, of) not in self._made:
            self._made[kind, of] = make()
        found: Made = self._made[kind, of]
        return found

    def _simplifies(self, cell: Cell) -> bool:
        own = self.spec.models[cell.model].simplify
        return self.spec.simplify if own is None else own

    def _ends_at(self, cell: Cell) -> str:
        """Return where the graph ends: without a suppression, `host` cuts nothing off."""
        uncut = cell.postprocess == "host" and self.facts[cell.model].suppression is None
        return "graph" if uncut else cell.postprocess

    def _prepare(self, cell: Cell, check: Step, images: specs.Dataset) -> Step:
        values = specs.PrepareInputs(
            self.facts[cell.model].pipeline,
            self.shapes[cell.shape],
            images,
            self.facts[cell.model].sizes if self.shapes[cell.shape].dynamic_size else None,
        )
        return self._add(prepare_step(f"{cell.shape} for {cell.model}", values, check))

    def _reference(self, cell: Cell, prepare: Step) -> Step:
        model, images = self.models[cell.model], self.spec.verify.images
        classes = self.facts[cell.model].classes
        values = specs.ReferenceInputs(model, prepare.ref, images, classes=classes)
        if cell.postprocess == "none":
            batch = self.shapes[cell.shape].min.n
            images = min(images, max(batch, RAW_IMAGES))
            values = specs.ReferenceInputs(model, prepare.ref, images, raw_batch=batch)
        packages = catalog.SOURCES[model.source].packages
        packages += catalog.OWN_STAGES["reference"].packages
        label = f"{cell.model} {cell.shape}"
        step = new_step("reference", label, values, packages, Needs(), prepare)
        return self._add_loading(cell.model, step)

    def _export(self, cell: Cell, check: Step) -> Step:
        model, shape, ends_at = self.models[cell.model], cell.shape, self._ends_at(cell)
        opset = f"op{cell.opset}" if cell.opset else ""
        parts = [cell.model, opset, shape, ends_at if ends_at != "graph" else ""]
        label = " ".join(filter(None, parts))
        simplifies = self._simplifies(cell)
        values = specs.ExportInputs(model, self.shapes[shape], cell.opset, ends_at, simplifies)
        return self._add_loading(cell.model, export_step(label, values, check))

    def _convert(self, cell: Cell, export: Step, check: Step) -> Step:
        own = self.spec.models[cell.model].keep_fp32
        keep = tuple(sorted(self.spec.keep_fp32 if own is None else own))
        packages = catalog.OWN_STAGES["convert"].packages
        parents, int8 = [export], None
        if cell.precision == "int8":
            packages += catalog.INT8_PACKAGES
            if self.spec.int8.auto is not None:
                packages += catalog.OWN_STAGES["evaluate"].packages
            parents.append(self._prepare(cell, check, self.inputs.calibration))
            facts, suppresses = self.facts[cell.model], self._ends_at(cell) != "host"
            batch = self.shapes[cell.shape].min.n
            int8 = precisions.quantisation(
                self.spec, self.inputs.calibration, parents[-1].ref, batch, facts, suppresses
            )
        values = specs.ConvertInputs(export.ref, cell.precision, keep, int8)
        label = f"{export.label} {cell.precision}"
        return self._add(new_step("convert", label, values, packages, Needs(), *parents))

    def _options(self, cell: Cell) -> specs.EngineOptions:
        def made() -> specs.EngineOptions:
            name, own = cell.runtime.partition("@")[0], self.inputs.options_of(cell.runtime)
            shape, workspace = self.shapes[cell.shape], cell.workspace_bytes
            options = specs.EngineOptions(name, cell.precision, shape, workspace, own)
            return built_for(options, self.inputs.targets[cell.target])

        of = cell.runtime, cell.precision, cell.shape, cell.workspace_bytes, cell.target
        return self._once("options", of, made)

    def _engine(self, cell: Cell, options: specs.EngineOptions, built: Step | None) -> specs.Engine:
        facts, ends_at = self.facts[cell.model], self._ends_at(cell)
        return specs.Engine(
            options,
            built.ref if built else None,
            None if built else self.models[cell.model],
            ends_at,
            facts.suppression if ends_at == "host" else None,
        )

    def _run(
        self, stage: Stage, cell: Cell, label: str, run: EngineRun, steps: Mapping[str, Step]
    ) -> Step:
        """Plan a stage that runs the engine of a cell."""
        assert stage.from_engine is not None
        built, values = steps.get("build"), stage.from_engine(run)
        parents = [built, steps["prepare"]]
        if hasattr(values, "reference"):
            parents.append(steps["reference"])
        place = self.inputs.environments.place(cell.runtime)
        step = engine_step(stage, label, values, *parents, place=place)
        return self._add(step) if built else self._add_loading(cell.model, step)


def _first_alike(
    shapes: Mapping[str, specs.Shape], seen_as: Callable[[specs.Shape], specs.Shape]
) -> dict[str, str]:
    """Return for each shape the first one that a stage cannot tell from it.

    seen_as: what the stage sees of a shape.
    """
    first: dict[specs.Shape, str] = {}
    return {
        name: first.setdefault(replace(seen_as(shape), name=""), name)
        for name, shape in shapes.items()
    }
