"""One model's trials, as steps: export it at an opset, build and run it on a runtime, compare.

Everything runs in worker processes with limits, as a sweep's steps do, and in a temporary store:
whatever a model's code or a runtime does to its process, it ends its own trials only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import specs
from farm.catalog import RUNTIMES, SOURCES, TABLE_STAGES
from farm.detections import files
from farm.detections.compare import agreement
from farm.engine.checks import require_packages
from farm.engine.scheduler import Outcome, StepStatus
from farm.models import own_config, steps
from farm.models.records import Trial
from farm.models.verdict import SAME, weights_unusable, with_agreement
from farm.plan.content.own_code import runs_own_code
from farm.plan.factory import engine_setting, export_step, new_step, step_to_build
from farm.plan.machines.placement import cpu_model
from farm.plan.steps import Needs, Step
from farm.results import arrays
from farm.stages.table import MOVED, WEIGHTS

if TYPE_CHECKING:
    from farm.detections import Detections
    from farm.engine.workers.limits import Limits
    from farm.models.families import Family
    from farm.specs import Dims
    from farm.store import Store


@dataclass(frozen=True)
class Unusable:
    """Why a model is not tried.

    refused: for what it is, before any work. temporary: as of `Trial`.
    """

    reason: str
    refused: bool = False
    temporary: bool = False


class Subject:
    """A family's model with its random weights, whose steps run in `store`."""

    def __init__(self, family: Family, store: Store, limits: Limits | None = None) -> None:
        self.family, self._store, self._limits = family, store, limits
        model = family.model()
        self._own_process = Needs(own_process=_runs_own_code(family, model))
        packages = SOURCES["mmdet"].packages
        values = specs.RandomModelInputs(
            model, tuple(family.layer_outputs.items()), family.shape,
            tuple(dict.fromkeys(self.family.sizes("dynamic"))), family.seed,
        )  # fmt: skip
        self._reference = new_step(
            "table.reference", family.name, values, packages, self._own_process
        )
        self._artifact = store.path(self._reference.ref)
        self.model = replace(model, checkpoint=specs.File(str(self._artifact / WEIGHTS), ""))

    def unusable(self) -> Unusable | None:
        """Make the weights and the model's own answers; return why it is not tried, if so.

        Raises:
            InputError: a package that MMDetection needs is not installed.
            Interrupted: the user or the system ends the command.
        """
        require_packages([self._reference], self._store)
        outcome = steps.run([self._reference], self._store, self._limits)[self._reference.key]
        if outcome.status is not StepStatus.DONE:
            return Unusable(f"cannot be tried: {outcome.reason}", temporary=_temporary(outcome))
        figures = self._figures(self._reference)
        if refused := figures.get("refused"):
            return Unusable(refused, refused=True)
        answers = [one for size in self.family.sizes("dynamic") for one in self.answers(size)]
        moved = (arrays.pairs(self._artifact / name) for name in MOVED)
        reason = weights_unusable(answers, figures["classes"], moved)
        return Unusable(reason) if reason else None

    def answers(self, size: Dims) -> list[Detections]:
        """Return the model's own detections on its images of a size, after `unusable`."""
        return files.load(self._artifact / f"{size}.npz")

    def _figures(self, step: Step) -> Mapping[str, Any]:
        record = self._store.record(step.ref)
        return record.figures if record else {}

    def trials(self, opset: int, kind: str, runtimes: Sequence[str]) -> list[Trial]:
        """Run the trials of one file, after `unusable`; then remove it with its engines, which are
        large.

        Raises:
            Interrupted: as `unusable`.
        """
        exported, runs = self._steps(opset, kind, runtimes)
        planned = [self._reference, exported, *(step for run in runs for step in run)]
        outcomes = steps.run(planned, self._store, self._limits)
        found = [
            self._judged(Trial(opset=opset, kind=kind, runtime=name), (exported, *run), outcomes)
            for name, run in zip(runtimes, runs, strict=True)
        ]
        for step in planned[1:]:
            self._store.remove(step.ref)
        return found

    def _steps(
        self, opset: int, kind: str, runtimes: Sequence[str]
    ) -> tuple[Step, list[tuple[Step, Step]]]:
        """Return the export, and for each runtime the build as a sweep on this CPU has it, with
        the run of its engine."""
        shape, label = self.family.profile(kind), f"{self.family.name} op{opset} {kind}"
        values = specs.ExportInputs(self.model, shape, opset)
        exported = replace(export_step(label, values, self._reference), needs=self._own_process)
        return exported, [self._of_runtime(exported, shape, name) for name in runtimes]

    def _of_runtime(self, exported: Step, shape: specs.Shape, runtime: str) -> tuple[Step, Step]:
        target, figures = specs.Target("cpu", cpu_model()), self._figures(self._reference)
        options = specs.EngineOptions(runtime, "fp32", shape)
        label = f"{exported.label} {runtime}"
        built = step_to_build(label, exported.ref, options, target, exported)
        assert isinstance(built.inputs, specs.BuildInputs)
        engine = specs.Engine(built.inputs.options, built.ref, None)
        values = specs.TrialInputs(
            engine, self._reference.ref, tuple(self.family.sizes(shape.name)), figures["classes"],
            figures["mask_threshold"], figures["mask_frame"], target,
        )  # fmt: skip
        trial = engine_setting(TABLE_STAGES["table.trial"], RUNTIMES[runtime], target)
        return built, trial.step(label, values, (built.key, self._reference.key))

    def _judged(
        self, trial: Trial, path: tuple[Step, Step, Step], outcomes: Mapping[str, Outcome]
    ) -> Trial:
        """Return the trial with its result. path: the export, the build and the run."""
        if record := self._store.record(path[0].ref):
            nodes, seconds = record.figures["onnx_nodes"], round(record.seconds, 2)
            trial = replace(trial, nodes=nodes, export_s=seconds)
        for step, doing in zip(path, ("", "cannot be built: ", "cannot be run: "), strict=True):
            if (end := outcomes[step.key]).status is not StepStatus.DONE:
                reason = f"{doing}{end.reason}"
                return replace(trial, reason=reason, temporary=_temporary(end))
        folder = self._store.path(path[-1].ref)
        for size in self.family.sizes(trial.kind):
            found = agreement(arrays.pairs(folder / f"{size}.npz"), SAME)
            trial = with_agreement(trial, found)
            if trial.reason:
                return replace(trial, reason=f"{size}: {trial.reason}")
        return trial


def _temporary(outcome: Outcome) -> bool:
    return outcome.status is StepStatus.TRANSIENT


def _runs_own_code(family: Family, model: specs.Model) -> bool:
    if any(name.startswith("custom_imports") for name in family.options):
        return True
    facts = None
    if Path(family.config).is_file():
        facts = specs.ModelFacts((), False, "", used=own_config.used(family.config))
    return runs_own_code(model, facts)
