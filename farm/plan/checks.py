"""The step `check` of a model: the one whose findings are true of the model as it is today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from farm import catalog
from farm.plan import dependencies
from farm.plan.steps import Needs, Step, new_step
from farm.specs import AnyModel, CheckInputs, ModelFacts, OnnxModel, OtherModel

Facts = Callable[[str], ModelFacts | None]
"""What the store knows of a model, by the key of its `check`; None before that has run."""

Model = TypeVar("Model", bound=AnyModel)


def current(label: str, values: CheckInputs, facts: Facts) -> tuple[Step, ModelFacts | None]:
    """The step and what it found; None where the model, as it is today, was not checked yet.

    Where something that the model was made of has changed since, its state is added to the inputs:
    that is another step, which may have been done before.
    """
    packages = catalog.SOURCES[values.model.source].packages
    if values.dataset:
        packages += catalog.DATASETS[values.dataset.type].packages
    places = dependencies.where(values.model)
    while True:
        step = new_step("check", label, values, packages, Needs(apart=True))
        found = facts(step.key)
        if found is None or dependencies.holds(found.used, places):
            return step, found
        values = replace(values, used=(*values.used, dependencies.state(found.used, places)))


def with_used(model: Model, facts: ModelFacts | None) -> Model:
    """The model, with what `check` saw that it is made of in the keys of all steps to come."""
    if facts is None or isinstance(model, OnnxModel | OtherModel):
        return model
    return replace(model, used=dependencies.as_key(facts.used))
