"""From a matrix to a plan: the steps of each cell, of which equal ones become one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from farm import specs
from farm.plan import precisions
from farm.plan.checks import Facts, check_model, checked_by
from farm.plan.content import dependencies
from farm.plan.draft import Draft
from farm.plan.engine_steps import EngineSteps
from farm.plan.file_steps import FileSteps
from farm.plan.machines import compatibility
from farm.plan.steps import Plan, PlannedCell, Step

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.specs import Cell


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
