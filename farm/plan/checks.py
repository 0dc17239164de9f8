"""The step `check` of a model: the one whose findings are true of the model as it is today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from farm import catalog
from farm.plan.content import dependencies, own_code
from farm.plan.factory import new_step
from farm.plan.steps import Needs, Step
from farm.specs import AnyModel, CheckInputs, ModelFacts, OnnxModel, OtherModel

Facts = Callable[[str], ModelFacts | None]
"""What the store knows of a model, by the key of its `check`; None before that has run."""

M = TypeVar("M", bound=AnyModel)


@dataclass(frozen=True)
class CheckedModel(Generic[M]):
    """A model as later steps take it: with the digest of what its `check` saw that it is made of.

    facts: None where the model, as it is today, was not checked yet. own_code: whether loading it
    runs code of its user's.
    """

    model: M
    step: Step
    facts: ModelFacts | None
    own_code: bool

    def loading(self, step: Step) -> Step:
        """Give a step that loads the model a process of its own, where the model needs that."""
        return replace(step, needs=replace(step.needs, own_process=True)) if self.own_code else step


def check_model(model: M, values: CheckInputs, facts: Facts) -> CheckedModel[M]:
    """Plan the check of a model. values: the inputs of its first check."""
    step, found = _current(model.name, values, facts)
    return checked_by(model, step, found)


def checked_by(model: M, step: Step, facts: ModelFacts | None) -> CheckedModel[M]:
    """Return the model as this check found it. facts: its findings."""
    runs = own_code.runs_own_code(_with_used(model, facts), facts)
    return CheckedModel(_with_used(model, facts), step, facts, runs)


def _current(label: str, values: CheckInputs, facts: Facts) -> tuple[Step, ModelFacts | None]:
    """Return the step and its findings; None where the model was not checked in its state today.

    Where something that the model was made of has changed since, its state is added to the inputs:
    that is another step, which may have been done before.
    """
    packages = catalog.SOURCES[values.model.source].packages
    if values.dataset:
        packages += catalog.DATASETS[values.dataset.type].packages
    places = dependencies.where(values.model)
    while True:
        step = new_step("check", label, values, packages, Needs(own_process=True))
        found = facts(step.key)
        if found is None or dependencies.holds(found.used, places):
            return step, found
        values = replace(values, used=(*values.used, dependencies.state(found.used, places)))


def _with_used(model: M, facts: ModelFacts | None) -> M:
    """Add the digest of what the model is made of, which is in the keys of all later steps."""
    if facts is None or isinstance(model, OnnxModel | OtherModel):
        return model
    return replace(model, used=dependencies.as_key(facts.used))
