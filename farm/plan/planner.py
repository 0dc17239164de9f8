"""From a matrix to a plan: each cell asks for its steps, and equal steps become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from farm import catalog, specs
from farm.plan import compatibility, dependencies, resolve
from farm.plan.checks import CheckedModel, Facts, check_model, checked_by
from farm.plan.placement import cores
from farm.plan.resolve import ResolvedInputs
from farm.plan.steps import (
    EngineInputs,
    Needs,
    Plan,
    PlannedCell,
    Step,
    built_for,
    engine_step,
    export_step,
    new_step,
    prepare_step,
    step_to_build,
)
from farm.specs import Cell

if TYPE_CHECKING:
    from farm.config.loader import Matrix

RAW_IMAGES = 2
"""Raw outputs are large, and each holds values enough: so many images are compared."""


Made = TypeVar("Made")


class Planner:
    """Makes one plan; see `farm.plan.make_plan`. It keeps what cells have in common."""

    def __init__(self, matrix: Matrix, facts: Facts, just_checked: Mapping[str, Step]) -> None:
        self.matrix, self.spec = matrix, matrix.spec
        self.known_facts, self.just_checked = facts, just_checked
        self.given = ResolvedInputs(matrix)
        self.models, self.shapes = self.given.models, self.given.shapes
        self.steps: dict[str, Step] = {}
        self.facts: dict[str, specs.ModelFacts] = {}
        self.unchecked: list[str] = []
        self.checked: dict[str, CheckedModel[specs.AnyModel]] = {}
        self._in_int8 = {cell.model for cell in matrix.cells if cell.precision == "int8"}
        self._made: dict[tuple[str, tuple[Any, ...]], Any] = {}

    def plan(self) -> Plan:
        names = dict.fromkeys(cell.model for cell in self.matrix.cells)
        checks = {name: self._check(name) for name in names}
        asked = (
            compatibility.with_host_suppression(cell, self.facts[cell.model])
            for cell in self.matrix.cells
        )
        cells = tuple(self._cell(cell, checks[cell.model]) for cell in dict.fromkeys(asked))
        missing, unchecked = tuple(self.given.missing), tuple(self.unchecked)
        unseen = {
            name: tuple(dependencies.unfollowed(facts.used)) for name, facts in self.facts.items()
        }
        unseen = {name: told for name, told in unseen.items() if told}
        return Plan(self.matrix.name, cells, self.steps, missing, unchecked, unseen)

    def _kept(self, step: Step) -> Step:
        """The step, or its equal that there is already."""
        return self.steps.setdefault(step.key, step)

    def _loading(self, model: str, step: Step) -> Step:
        """As `_kept`, for a step that loads the model."""
        return self._kept(self.checked[model].loading(step))

    def _check(self, name: str) -> Step:
        model = self.models[name]
        in_int8 = name in self._in_int8
        measured = resolve.measured_by_auto(self.spec, self.given) if in_int8 else None
        labels = self.given.labels.get(name, ())
        values = specs.CheckInputs(model, self.given.dataset, measured, labels=labels)
        if just_checked := self.just_checked.get(name):
            checked = checked_by(model, just_checked, self.known_facts(just_checked.key))
        else:
            checked = check_model(model, values, self.known_facts)
        step, facts = self._kept(checked.step), checked.facts
        self.checked[name], self.models[name] = checked, checked.model
        if facts is None:
            self.unchecked.append(name)
            facts = specs.ModelFacts((), False, f"unknown until checked: {step.key}")
        self.facts[name] = facts
        return step

    def _cell(self, cell: Cell, check: Step) -> PlannedCell:
        facts, runtime = self.facts[cell.model], catalog.RUNTIMES[cell.runtime]
        reason = compatibility.cell_unsupported(
            cell,
            facts,
            self.shapes[cell.shape],
            self.given.targets[cell.target],
            simplify=self._simplifies(cell),
            converts=resolve.converts(self.spec, cell),
            auto=self.spec.int8.auto is not None,
        )
        if reason:
            return PlannedCell(cell, {"check": check.key}, reason)
        steps = {"check": check}
        of_shape = cell.model, cell.shape
        steps["prepare"] = self._once(
            "prepare", of_shape, lambda: self._prepare(cell, check, self.given.dataset)
        )
        steps["reference"] = self._once(
            "reference",
            (*of_shape, cell.postprocess),
            lambda: self._reference(cell, steps["prepare"]),
        )
        if runtime.exported:
            steps["export"] = self._once(
                "export",
                (*of_shape, cell.postprocess, cell.opset),
                lambda: self._export(cell, check),
            )
        if resolve.converts(self.spec, cell):
            steps["convert"] = self._once(
                "convert",
                (*of_shape, cell.postprocess, cell.opset, cell.precision),
                lambda: self._convert(cell, steps["export"], check),
            )
        if runtime.exported:
            steps["build"] = self._build(cell, steps.get("convert") or steps["export"])
        for stage in ("verify", "evaluate", "measure"):
            if stage != "evaluate" or cell.postprocess != "none":  # raw outputs have no AP
                steps[stage] = self._run(stage, cell, steps)
        for stage in catalog.EXTRA_STAGES if runtime.exported else ():
            steps[stage] = self._run(stage, cell, steps)
        return PlannedCell(cell, {stage: step.key for stage, step in steps.items()})

    def _once(self, kind: str, of: tuple[Any, ...], make: Callable[[], Made]) -> Made:
        """What cells that agree in `of` have in common is made for the first of them."""
        if (kind, of) not in self._made:
            self._made[kind, of] = make()
        found: Made = self._made[kind, of]
        return found

    def _simplifies(self, cell: Cell) -> bool:
        own = self.spec.models[cell.model].simplify
        return self.spec.simplify if own is None else own

    def _ends_at(self, cell: Cell) -> str:
        """Without a suppression to cut off, the graph on the host's side is the whole one."""
        whole = cell.postprocess == "host" and self.facts[cell.model].suppression is None
        return "graph" if whole else cell.postprocess

    def _prepare(self, cell: Cell, check: Step, images: specs.Dataset) -> Step:
        values = specs.PrepareInputs(
            self.facts[cell.model].pipeline,
            self.shapes[cell.shape],
            images,
            self.facts[cell.model].sizes if self.shapes[cell.shape].dynamic_size else None,
        )
        return self._kept(prepare_step(f"{cell.shape} for {cell.model}", values, check))

    def _reference(self, cell: Cell, prepare: Step) -> Step:
        model, images = self.models[cell.model], self.spec.verify.images
        classes = self.facts[cell.model].classes
        values = specs.ReferenceInputs(model, prepare.ref, images, classes=classes)
        if cell.postprocess == "none":
            batch = self.shapes[cell.shape].min.n
            images = min(images, max(batch, RAW_IMAGES))
            values = specs.ReferenceInputs(model, prepare.ref, images, raw_batch=batch)
        packages = catalog.SOURCES[model.source].packages + catalog.EVALUATE_PACKAGES
        label = f"{cell.model} {cell.shape}"
        step = new_step("reference", label, values, packages, Needs(), prepare)
        return self._loading(cell.model, step)

    def _export(self, cell: Cell, check: Step) -> Step:
        model, shape, ends_at = self.models[cell.model], cell.shape, self._ends_at(cell)
        opset = f"op{cell.opset}" if cell.opset else ""
        words = [cell.model, opset, shape, ends_at if ends_at != "graph" else ""]
        label = " ".join(filter(None, words))
        simplifies = self._simplifies(cell)
        values = specs.ExportInputs(model, self.shapes[shape], cell.opset, ends_at, simplifies)
        return self._loading(cell.model, export_step(label, values, check))

    def _convert(self, cell: Cell, export: Step, check: Step) -> Step:
        own = self.spec.models[cell.model].keep_fp32
        keep = tuple(sorted(self.spec.keep_fp32 if own is None else own))
        packages: tuple[str, ...] = catalog.CONVERT_PACKAGES
        parents, int8 = [export], None
        if cell.precision == "int8":
            packages += catalog.INT8_PACKAGES
            packages += catalog.EVALUATE_PACKAGES * (self.spec.int8.auto is not None)
            parents.append(self._prepare(cell, check, self.given.calibration))
            facts, whole = self.facts[cell.model], self._ends_at(cell) != "host"
            batch = self.shapes[cell.shape].min.n
            int8 = resolve.quantisation(
                self.spec, self.given.calibration, parents[-1].ref, batch, facts, whole
            )
        values = specs.ConvertInputs(export.ref, cell.precision, keep, int8)
        label = f"{export.label} {cell.precision}"
        return self._kept(new_step("convert", label, values, packages, Needs(), *parents))

    def _options(self, cell: Cell) -> specs.EngineOptions:
        return self._once("options", (cell,), lambda: self._own_options(cell))

    def _own_options(self, cell: Cell) -> specs.EngineOptions:
        options = specs.EngineOptions(
            cell.runtime,
            cell.precision,
            self.shapes[cell.shape],
            cell.workspace_bytes,
            self.given.runtime_options.get(cell.runtime, ()),
        )
        return built_for(options, self.given.targets[cell.target])

    def _build(self, cell: Cell, file: Step) -> Step:
        target = self.given.targets[cell.target]
        return self._kept(step_to_build(cell.id, file.ref, self._options(cell), target, file))

    def _engine(self, cell: Cell, built: Step | None) -> specs.Engine:
        facts, ends_at = self.facts[cell.model], self._ends_at(cell)
        return specs.Engine(
            self._options(cell),
            built.ref if built else None,
            None if built else self.models[cell.model],
            ends_at,
            facts.suppression if ends_at == "host" else None,
        )

    def _run(self, stage: str, cell: Cell, steps: Mapping[str, Step]) -> Step:
        """verify, evaluate, measure and other packages' stages: all on the very engine built."""
        target, prepared = self.given.targets[cell.target], steps["prepare"].ref
        built, facts = steps.get("build"), self.facts[cell.model]
        engine = self._once("engine", (cell,), lambda: self._engine(cell, built))
        parents = [built, steps["prepare"]]
        values: EngineInputs
        if stage == "verify":
            reference = steps["reference"]
            values = specs.VerifyInputs(
                engine, prepared, reference.ref, facts.mask_threshold, facts.mask_frame, target
            )
            parents.append(reference)
        elif stage == "evaluate":
            values = specs.EvaluateInputs(
                engine, prepared, facts.classes, facts.clips_boxes, facts.mask_threshold,
                facts.mask_frame, target,
            )  # fmt: skip
        elif stage in catalog.EXTRA_STAGES:
            values = specs.ExtraInputs(engine, prepared, target)
        else:
            measure = self.spec.measure
            values = specs.MeasureInputs(
                engine,
                prepared,
                target,
                measure.seconds,
                measure.max_seconds,
                measure.warmup_seconds,
                measure.min_samples,
                measure.threads or cores(),
            )
        step = engine_step(stage, cell.id, values, *parents)
        return self._kept(step) if built else self._loading(cell.model, step)
