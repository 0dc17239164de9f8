"""From a matrix to a plan: the steps of each cell, of which equal ones become one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from farm import specs
from farm.plan import precisions
from farm.plan.checks import Facts, check_model, checked_by
from farm.plan.content import dependencies
from farm.plan.engine_steps import EngineSteps
from farm.plan.file_steps import FileSteps
from farm.plan.machines import compatibility
from farm.plan.resolve import ResolvedInputs
from farm.plan.steps import Plan, PlannedCell, Step

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.plan.checks import CheckedModel
    from farm.specs import Cell

Made = TypeVar("Made")


class Draft:
    """What all cells of a plan share. Of equal steps there is one.

    models, facts: as the checks found them, by the model's name. datasets: what each model is
    evaluated on. unchecked: models of which nothing
    is known yet; their facts refuse them.
    """

    def __init__(self, matrix: Matrix) -> None:
        self.spec = matrix.spec
        self.inputs = ResolvedInputs(matrix)
        self.models, self.shapes = self.inputs.models, self.inputs.shapes
        self.steps: dict[str, Step] = {}
        self.facts: dict[str, specs.ModelFacts] = {}
        self.datasets: dict[str, specs.Dataset] = {}
        self.unchecked: list[str] = []
        self._checked: dict[str, CheckedModel[specs.AnyModel]] = {}
        self._made = defaultdict[str, dict[Any, Any]](dict)

    def add(self, step: Step) -> Step:
        """Return the step of the plan that equals this one: an earlier one, or itself."""
        return self.steps.setdefault(step.key, step)

    def add_checked(self, name: str, checked: CheckedModel[specs.AnyModel]) -> Step:
        """Add the check of a model, and take the model as it was found."""
        step, facts = self.add(checked.step), checked.facts
        self._checked[name], self.models[name] = checked, checked.model
        if facts is None:
            self.unchecked.append(name)
            facts = specs.ModelFacts((), False, f"unknown until checked: {step.key}")
        self.facts[name] = facts
        self.datasets[name] = self.inputs.dataset_of(facts)
        return step

    def add_loading(self, model: str, step: Step) -> Step:
        """As `add`, for a step that loads the model."""
        return self.add(self._checked[model].loading(step))

    def once(self, kind: str, of: Any, make: Callable[[], Made]) -> Made:
        """Make what cells with the same values `of` share, for the first of them."""
        known = self._made[kind]
        if of not in known:
            known[of] = make()
        found: Made = known[of]
        return found

    def ref(self, shared: Step) -> specs.Ref:
        """Return the same reference each time to a step that many others read."""
        return self.once("ref", shared.key, lambda: shared.ref)

    def simplifies(self, model: str) -> bool:
        """Return whether the model's ONNX files are simplified."""
        own = self.spec.models[model].simplify
        return self.spec.simplify if own is None else own

    def ends_at(self, cell: Cell) -> str:
        """Return where the graph ends: without a suppression, `host` cuts nothing off."""
        uncut = cell.postprocess == "host" and self.facts[cell.model].suppression is None
        return "graph" if uncut else cell.postprocess


class Planner:
    """Makes one plan; see `farm.plan.make_plan`."""

    def __init__(self, matrix: Matrix, facts: Facts, just_checked: Mapping[str, Step]) -> None:
        self._matrix, self._spec = matrix, matrix.spec
        self._known_facts, self._just_checked = facts, just_checked
        self._draft = Draft(matrix)
        self._inputs, self._environments = self._draft.inputs, self._draft.inputs.environments
        self._files, self._engines = FileSteps(self._draft), EngineSteps(self._draft)
        self._in_int8 = {cell.model for cell in matrix.cells if cell.precision == "int8"}

    def plan(self) -> Plan:
        """Return the plan of all cells."""
        names = dict.fromkeys(cell.model for cell in self._matrix.cells)
        checks, facts = {name: self._check(name) for name in names}, self._draft.facts
        wanted = (
            compatibility.with_host_suppression(cell, facts[cell.model])
            for cell in self._matrix.cells
        )
        cells = tuple(self._cell(cell, checks[cell.model]) for cell in dict.fromkeys(wanted))
        found = ((name, dependencies.unfollowed(one.used)) for name, one in facts.items())
        unfollowed = {name: tuple(texts) for name, texts in found if texts}
        problems = tuple(self._inputs.missing), tuple(self._draft.unchecked), unfollowed
        unmade = self._environments.unmade
        return Plan(self._matrix.name, cells, self._draft.steps, *problems, unmade)

    def _check(self, name: str) -> Step:
        model, labels = self._draft.models[name], self._inputs.labels.get(name, ())
        in_int8 = name in self._in_int8
        measured = precisions.measured_by_auto(self._spec, self._inputs) if in_int8 else None
        values = specs.CheckInputs(model, self._inputs.dataset, measured, labels=labels)
        if just_checked := self._just_checked.get(name):
            checked = checked_by(model, just_checked, self._known_facts(just_checked.key))
        else:
            checked = check_model(model, values, self._known_facts)
        return self._draft.add_checked(name, checked)

    def _cell(self, cell: Cell, check: Step) -> PlannedCell:
        converts = precisions.converts(self._spec, cell)
        reason = compatibility.cell_unsupported(
            cell,
            self._draft.facts[cell.model],
            self._draft.shapes[cell.shape],
            self._inputs.targets[cell.target],
            simplify=self._draft.simplifies(cell.model),
            converts=converts,
            auto=self._spec.int8.auto is not None,
            release=self._environments.release(cell.runtime),
        )
        if reason:
            return PlannedCell(cell, {"check": check.key}, reason)
        if reason := self._environments.refused(cell.runtime):
            return PlannedCell(cell, {"check": check.key}, reason, "build")
        steps = self._files.of(cell, check, converts)
        self._engines.add(cell, steps)
        return PlannedCell(cell, {stage: step.key for stage, step in steps.items()})
