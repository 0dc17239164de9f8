"""What the store knows of a model: the figures that `check` left, as the plan asks for them."""

from __future__ import annotations

from collections.abc import Callable

from farm.inputs import ModelFacts, Ref
from farm.store import Store


def facts_from(store: Store) -> Callable[[str], ModelFacts | None]:
    """What `check` found out of a model, by the key of that step; how it failed is a refusal."""

    def facts(key: str) -> ModelFacts | None:
        record = store.record(Ref("check", key))
        if record is None and (failure := store.failure(key)):
            return ModelFacts((), False, "", refused=failure.reason)
        if record is None:
            return None
        try:
            return ModelFacts(**{**record.figures, "classes": tuple(record.figures["classes"])})
        except (KeyError, TypeError):
            return None  # torn by hand: the check runs again

    return facts
