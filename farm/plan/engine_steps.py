"""The steps that build and run the engine of a cell: all stages run the same one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from farm import catalog, specs
from farm.parts import EngineRun
from farm.plan.factory import Setting, build_setting, built_for, engine_setting
from farm.plan.machines.placement import cores

if TYPE_CHECKING:
    from farm.parts import Stage
    from farm.plan.planner import Draft
    from farm.plan.steps import Step
    from farm.specs import Cell


@dataclass(frozen=True)
class _Run:
    """A stage that runs engines, with the setting of its steps. compares: with a reference."""

    stage: Stage
    setting: Setting
    compares: bool


@dataclass(frozen=True)
class _Engines:
    """What engines have in common that are of one runtime and for one target.

    build: None where the runtime runs the model itself. runs: the stages that run the engine.
    """

    target: specs.Target
    build: Setting | None
    runs: tuple[_Run, ...]


class EngineSteps:
    """Plans `build` and the stages that run engines."""

    def __init__(self, draft: Draft) -> None:
        self._draft, self._inputs = draft, draft.inputs
        self._stages = tuple(catalog.engine_stages().values())
        self._threads = draft.spec.measure.threads or cores()

    def add(self, cell: Cell, steps: dict[str, Step]) -> None:
        """Add the steps of a cell to those that lead up to its file."""
        draft, source = self._draft, self._draft.models[cell.model].source
        alike = cell.runtime, cell.target, source
        engines = draft.once("engines", alike, lambda: self._alike(cell, source))
        label, options, build = cell.id, self._options(cell), None
        if engines.build:
            file = steps.get("convert") or steps["export"]
            to_build = specs.BuildInputs(draft.ref(file), options, engines.target)
            build = draft.add(engines.build.step(label, to_build, (file.key,)))
            steps["build"] = build
        run = self._engine_run(cell, options, engines.target, build, steps)
        read = (build.key, steps["prepare"].key) if build else (steps["prepare"].key,)
        compared = (*read, steps["reference"].key)
        for one in engines.runs:
            if one.stage.raw_outputs or cell.postprocess != "none":
                assert one.stage.from_engine is not None
                values, parents = one.stage.from_engine(run), compared if one.compares else read
                step = one.setting.step(label, values, parents)
                own = draft.add(step) if build else draft.add_loading(cell.model, step)
                steps[one.stage.name] = own

    def _alike(self, cell: Cell, source: str) -> _Engines:
        runtime, target = catalog.runtime_of(cell.runtime), self._inputs.targets[cell.target]
        place = self._inputs.environments.place(cell.runtime)
        if not runtime.exported:
            eager = [stage for stage in self._stages if stage.eager]
            settings = [engine_setting(one, runtime, target, source, place) for one in eager]
            return _Engines(target, None, tuple(map(_run, eager, settings)))
        settings = [engine_setting(one, runtime, target, place=place) for one in self._stages]
        build = build_setting(runtime, target, place)
        return _Engines(target, build, tuple(map(_run, self._stages, settings)))

    def _options(self, cell: Cell) -> specs.EngineOptions:
        def made() -> specs.EngineOptions:
            name, own = cell.runtime.partition("@")[0], self._inputs.options_of(cell.runtime)
            shape, workspace = self._draft.shapes[cell.shape], cell.workspace_bytes
            options = specs.EngineOptions(name, cell.precision, shape, workspace, own)
            return built_for(options, self._inputs.targets[cell.target])

        of = cell.runtime, cell.precision, cell.shape, cell.workspace_bytes, cell.target
        return self._draft.once("options", of, made)

    def _engine_run(
        self,
        cell: Cell,
        options: specs.EngineOptions,
        target: specs.Target,
        build: Step | None,
        steps: dict[str, Step],
    ) -> EngineRun:
        draft = self._draft
        facts, ends_at = draft.facts[cell.model], draft.ends_at(cell)
        engine = specs.Engine(
            options,
            build.ref if build else None,
            None if build else draft.models[cell.model],
            ends_at,
            facts.suppression if ends_at == "host" else None,
        )
        prepared, reference = draft.ref(steps["prepare"]), draft.ref(steps["reference"])
        measure, racing = draft.spec.measure, draft.spec.racing
        return EngineRun(
            engine, prepared, reference, facts, target, measure, self._threads,
            racing.max_ap_drop if racing else None,
        )  # fmt: skip


def _run(stage: Stage, setting: Setting) -> _Run:
    return _Run(stage, setting, any(field.name == "reference" for field in fields(stage.inputs)))
