"""A plan while it is made: the resolved inputs, the checked models, and the steps so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from farm import specs
from farm.plan.resolve import ResolvedInputs

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.plan.checks import CheckedModel
    from farm.plan.steps import Step
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
