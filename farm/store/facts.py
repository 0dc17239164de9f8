"""What the store knows of a model: the figures that `check` left, as the plan asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from farm.inputs import Decay, ModelFacts, Ref, Sizes, Suppression
from farm.plan import used
from farm.store import Store


def facts_from(
    store: Store, lost: Mapping[str, str] | None = None
) -> Callable[[str], ModelFacts | None]:
    """What `check` found out of a model, by the key of that step; how it failed is a refusal.

    lost: why a check came to nothing this time, by its key; the store has no record of that.
    """

    def facts(key: str) -> ModelFacts | None:
        record = store.record(Ref("check", key))
        failure = store.failure(key) if record is None else None
        if why := failure.reason if failure else (lost or {}).get(key):
            seen = used.read(store.failed_file(key, used.FILE)) if failure else ()
            return ModelFacts(
                (), False, "", refused=why, host_refused=why, raw_refused=why, used=seen
            )
        if record is None:
            return None
        try:
            seen = used.read(store.path(Ref("check", key)) / used.FILE)
            return replace(_facts(record.figures), used=seen)
        except (KeyError, TypeError):
            return None  # torn by hand: the check runs again

    return facts


def _facts(figures: dict[str, Any]) -> ModelFacts:
    """From JSON, which knows neither tuples nor dataclasses."""
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in figures.items()
    }
    values.pop("notes", None)  # of the data set, for people
    if values.get("suppression"):
        how = dict(values["suppression"])
        decay = how.pop("decay")
        values["suppression"] = Suppression(**how, decay=Decay(**decay) if decay else None)
    for name in ("sizes", "padded_to"):
        if values.get(name):
            found = values[name]
            values[name] = Sizes(found["multiple"], tuple(found["remainders"]), found["least"])
    return ModelFacts(**values)
