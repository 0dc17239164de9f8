"""What the store knows of a model: the figures that `check` left, as the plan asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from farm.plan import dependencies
from farm.specs import ModelFacts, Ref
from farm.store import Store
from farm.store.figures import model_facts


def facts_from(
    store: Store, lost: Mapping[str, str] | None = None
) -> Callable[[str], ModelFacts | None]:
    """What `check` found out of a model, by the key of that step; how it failed is a refusal.

    Only a check that was made here: neither the facts nor the failures of imported records.
    lost: why a check came to nothing this time, by its key; the store has no record of that.
    """

    def facts(key: str) -> ModelFacts | None:
        record = store.record(Ref("check", key))
        failure = store.failure(key) if record is None else None
        why = failure.reason if failure else (lost or {}).get(key)
        if why is not None:
            why = why or "failed, and nothing says why"
            seen = dependencies.read(store.failed_file(key, dependencies.FILE)) if failure else ()
            return ModelFacts(
                (), False, "", refused=why, host_refused=why, raw_refused=why, used=seen
            )
        if record is None:
            return None
        seen = dependencies.read(store.path(Ref("check", key)) / dependencies.FILE)
        return replace(model_facts(record.figures), used=seen)

    return facts
