"""What the store knows of a model: the figures that `check` left, as the plan asks for them."""

from __future__ import annotations

from collections.abc import Callable

from farm.inputs import ModelFacts, Ref
from farm.store import Store
from farm.store.figures import model_facts


def facts_from(store: Store) -> Callable[[str], ModelFacts | None]:
    """What `check` found out of a model, by the key of that step; how it failed is a refusal.

    Only a check that was made here: neither the facts nor the failures of imported records.
    """

    def facts(key: str) -> ModelFacts | None:
        record = store.record(Ref("check", key))
        if record is None and (failure := store.failure(key)):
            why = failure.reason
            return ModelFacts((), False, "", refused=why, host_refused=why, raw_refused=why)
        return model_facts(record.figures) if record else None

    return facts
