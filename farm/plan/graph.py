"""From a matrix to a plan: each cell asks for its steps, and equal steps become one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from farm import catalog, inputs
from farm.errors import InputError
from farm.inputs import StageInputs
from farm.matrix import Cell, Matrix
from farm.plan import files
from farm.plan.devices import cores, cpu_model
from farm.plan.keys import step_key, toolchain
from farm.plan.steps import Needs, Plan, PlannedCell, Step

VERSIONS = {
    "check": 2,
    "prepare": 1,
    "reference": 2,
    "export": 2,
    "build": 1,
    "verify": 2,
    "evaluate": 2,
    "measure": 1,
}
"""Raised by hand when a stage comes to give another result from the same inputs."""

Facts = Callable[[str], inputs.ModelFacts | None]
"""What the store knows of a model, by the key of its `check`; None before that has run."""


def make_plan(matrix: Matrix, facts: Facts = lambda key: None) -> Plan:
    """Pure but for reading digests of the user's files; imports no torch, Ray or MLflow."""
    return _Planner(matrix, facts).plan()


class _Planner:
    def __init__(self, matrix: Matrix, facts: Facts) -> None:
        self.matrix, self.spec, self.known_facts = matrix, matrix.spec, facts
        self.steps: dict[str, Step] = {}
        self.missing: list[InputError] = []
        self.dataset = self._dataset()
        self.models = {name: self._model(name) for name in self.spec.models}
        self.shapes = {name: self._shape(name) for name in self.spec.shapes}
        self.targets = {name: self._target(name) for name in self.spec.targets}
        self.facts: dict[str, inputs.ModelFacts] = {}
        self.unchecked: list[str] = []

    def plan(self) -> Plan:
        names = dict.fromkeys(cell.model for cell in self.matrix.cells)
        checks = {name: self._check(name) for name in names}
        cells = tuple(self._cell(cell, checks[cell.model]) for cell in self.matrix.cells)
        return Plan(self.matrix.name, cells, self.steps, tuple(self.missing), tuple(self.unchecked))

    # The user's files.

    def _file(self, find: Callable[[], inputs.File], name: str, *place: str) -> inputs.File:
        """The file, or a note that it is missing: planning goes on without it."""
        try:
            return find()
        except InputError as error:
            where = self.matrix.document.where(place)
            message = f"{error.where}: {error.message}" if error.where else error.message
            self.missing.append(InputError(message, where))
            return inputs.File(name, f"missing {name}")

    def _model(self, name: str) -> inputs.Model:
        spec, folder = self.spec.models[name], self.matrix.folder
        return inputs.Model(
            name=name,
            source=spec.source,
            config=self._file(
                lambda: files.config_file(spec.config, folder),
                spec.config,
                "models",
                name,
                "config",
            ),
            checkpoint=self._file(
                lambda: files.plain_file("checkpoint", spec.checkpoint, folder),
                spec.checkpoint,
                "models",
                name,
                "checkpoint",
            ),
            cfg_options=tuple(sorted(spec.cfg_options.items())),
            allow_pickle=spec.allow_pickle,
        )

    def _dataset(self) -> inputs.Dataset:
        spec, folder = self.spec.dataset, self.matrix.folder
        if spec.type == "shapes":
            return inputs.ShapesDataset(spec.count, spec.seed, spec.size)
        return inputs.CocoDataset(
            images=self._file(
                lambda: files.image_folder(spec.images, folder), spec.images, "dataset", "images"
            ),
            annotations=self._file(
                lambda: files.plain_file("annotation file", spec.annotations, folder),
                spec.annotations,
                "dataset",
                "annotations",
            ),
            limit=spec.limit,
        )

    def _shape(self, name: str) -> inputs.Shape:
        spec = self.spec.shapes[name]
        return inputs.Shape(name, spec.min or spec.opt, spec.opt, spec.max or spec.opt)

    def _target(self, name: str) -> inputs.Target:
        spec = self.spec.targets[name]
        return inputs.Target(name, spec.device or spec.accelerator or cpu_model(), spec.accelerator)

    # The steps.

    def _step(
        self,
        stage: str,
        label: str,
        values: StageInputs,
        packages: tuple[str, ...],
        needs: Needs,
        *parents: Step | None,
    ) -> Step:
        step = new_step(stage, label, values, packages, needs, *parents)
        return self.steps.setdefault(step.key, step)

    def _check(self, name: str) -> Step:
        model = self.models[name]
        packages = catalog.SOURCES[model.source][1]
        step = self._step("check", name, inputs.CheckInputs(model, self.dataset), packages, Needs())
        facts = self.known_facts(step.key)
        if facts is None:
            self.unchecked.append(name)
            facts = inputs.ModelFacts((), False, f"unknown until checked: {step.key}")
        self.facts[name] = facts
        return step

    def _cell(self, cell: Cell, check: Step) -> PlannedCell:
        facts = self.facts[cell.model]
        runtime = catalog.RUNTIMES[cell.runtime]
        if facts.refused:
            return PlannedCell(cell, {"check": check.key}, facts.refused)
        steps = {"check": check}
        steps["prepare"] = self._prepare(cell, check)
        steps["reference"] = self._reference(cell, steps["prepare"])
        if runtime.exported:
            steps["export"] = self._export(cell, check)
        if runtime.builds:
            steps["build"] = self._build(cell, steps["export"])
        for stage in ("verify", "evaluate", "measure"):
            steps[stage] = self._run(stage, cell, steps)
        return PlannedCell(cell, {stage: step.key for stage, step in steps.items()})

    def _prepare(self, cell: Cell, check: Step) -> Step:
        values = inputs.PrepareInputs(
            self.facts[cell.model].pipeline,
            self.models[cell.model].source,
            _one_image(self.shapes[cell.shape]),
            self.dataset,
        )
        label = f"{cell.shape} for {cell.model}"
        return self._step("prepare", label, values, catalog.PREPARE_PACKAGES, Needs(), check)

    def _reference(self, cell: Cell, prepare: Step) -> Step:
        model = self.models[cell.model]
        values = inputs.ReferenceInputs(model, prepare.ref, self.spec.verify.images)
        packages = catalog.SOURCES[model.source][1] + catalog.EVALUATE_PACKAGES
        label = f"{cell.model} {cell.shape}"
        return self._step("reference", label, values, packages, Needs(), prepare)

    def _export(self, cell: Cell, check: Step) -> Step:
        model, shape = self.models[cell.model], self.shapes[cell.shape]
        assert cell.opset is not None
        label = f"{cell.model} op{cell.opset} {cell.shape}"
        values = inputs.ExportInputs(model, shape, cell.opset)
        step = export_step(label, values, check)
        return self.steps.setdefault(step.key, step)

    def _options(self, cell: Cell) -> inputs.EngineOptions:
        options = self.spec.runtime_options.get(cell.runtime, {})
        return inputs.EngineOptions(
            cell.runtime,
            cell.precision,
            self.shapes[cell.shape],
            cell.workspace_bytes,
            tuple(sorted(options.items())),
        )

    def _build(self, cell: Cell, export: Step) -> Step:
        target = self.targets[cell.target]
        values = inputs.BuildInputs(export.ref, self._options(cell), target)
        step = build_step(cell.id, values, Needs(accelerator=target.accelerator), export)
        return self.steps.setdefault(step.key, step)

    def _run(self, stage: str, cell: Cell, steps: Mapping[str, Step]) -> Step:
        """verify, evaluate and measure: all on the very engine that was built."""
        target, prepared = self.targets[cell.target], steps["prepare"].ref
        built = steps.get("build")
        engine = inputs.Engine(
            self._options(cell),
            built.ref if built else None,
            None if built else self.models[cell.model],
        )
        packages = catalog.RUNTIMES[cell.runtime].packages
        needs = Needs(exclusive=stage == "measure", accelerator=target.accelerator)
        parents = [built, steps["prepare"]]
        facts = self.facts[cell.model]
        values: StageInputs
        if stage == "verify":
            reference = steps["reference"]
            values = inputs.VerifyInputs(
                engine, prepared, reference.ref, facts.mask_threshold, facts.mask_frame, target
            )
            parents.append(reference)
        elif stage == "evaluate":
            values = inputs.EvaluateInputs(
                engine, prepared, facts.classes, facts.clips_boxes, facts.mask_threshold,
                facts.mask_frame, target,
            )  # fmt: skip
            packages += catalog.EVALUATE_PACKAGES
        else:
            measure = self.spec.measure
            values = inputs.MeasureInputs(
                engine,
                prepared,
                target,
                measure.seconds,
                measure.max_seconds,
                measure.warmup_seconds,
                measure.min_samples,
                measure.threads or cores(),
            )
        return self._step(stage, cell.id, values, packages, needs, *parents)


def new_step(
    stage: str,
    label: str,
    values: StageInputs,
    packages: tuple[str, ...],
    needs: Needs,
    *parents: Step | None,
) -> Step:
    """The step with its key: the stage's version, the inputs and the packages as installed."""
    tools = toolchain(packages)
    key = step_key(stage, VERSIONS[stage], values, tools)
    keys = tuple(parent.key for parent in parents if parent)
    return Step(stage, key, label, values, tools, keys, needs)


def export_step(label: str, values: inputs.ExportInputs, *parents: Step) -> Step:
    """Two profiles that differ only in their bounds trace the same graph."""
    values = dataclasses.replace(values, shape=_traced(values.shape))
    packages = catalog.SOURCES[values.model.source][1] + catalog.EXPORT_PACKAGES
    return new_step("export", label, values, packages, Needs(), *parents)


def build_step(label: str, values: inputs.BuildInputs, needs: Needs, *parents: Step) -> Step:
    packages = catalog.RUNTIMES[values.options.runtime].packages
    return new_step("build", label, values, packages, needs, *parents)


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
