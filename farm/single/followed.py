"""A model with what its own code uses, as a sweep's plan has it in its keys."""

from __future__ import annotations

import contextlib

from farm.errors import StepFailed
from farm.plan import checks
from farm.single import work
from farm.specs import CheckInputs, Model
from farm.store import Store
from farm.store.facts import facts_from


def followed(model: Model, store: Store, retry_failed: bool) -> Model:
    """By the stage `check`, without a data set; done now, unless the store has it.

    What fails there fails again, with its reason, in the step that the model is for. Raises
    InputError.
    """
    values = CheckInputs(model, None)
    step, facts = checks.current(model.name, values, facts_from(store))
    if facts is None or (retry_failed and store.failure(step.key)):
        with contextlib.suppress(StepFailed):
            work.carry_out(step, store, retry_failed)
        facts = facts_from(store)(step.key)
    return checks.with_used(model, facts)
