"""Read from the store what `check` has found of each model, for the planner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from farm.plan.content import dependencies
from farm.specs import ModelFacts, Ref, Used
from farm.store import Failure, Store
from farm.store.records import model_facts
from farm.store.upkeep.repair import discard_altered


def facts_from(
    store: Store,
    reasons: Mapping[str, str] | None = None,
    repair: bool = False,
    again: Callable[[Failure], bool] = lambda _: False,
) -> Callable[[str], ModelFacts | None]:
    """Return a function that gives a model's facts by the key of its check; None before the check.

    The facts of a failed check refuse all cells of the model, with the reason. Imported records
    and failures do not count.

    reasons: why checks have failed that the store has no record of, by key. repair: remove what a
    check has left and what was altered since, so that it runs again. again: whether a check that
    failed is to be made again: the model is then as before its check.
    """

    def facts(key: str) -> ModelFacts | None:
        if repair:
            discard_altered(store, [Ref("check", key)])
        record = store.record(Ref("check", key))
        failure = store.failure(key) if record is None else None
        if failure and again(failure):
            failure = None
        why = failure.reason if failure else (reasons or {}).get(key)
        if why is not None:
            why = why or "its check failed for an unknown reason"
            left = dependencies.read(store.failed_file(key, dependencies.FILE)) if failure else ()
            return ModelFacts(
                (), False, "", refused=why, host_refused=why, raw_refused=why, used=left
            )
        if record is None:
            return None
        seen: tuple[Used, ...] = ()
        if dependencies.FILE in record.files:
            seen = dependencies.read(store.files(Ref("check", key)) / dependencies.FILE)
        return replace(model_facts(record.figures), used=seen)

    return facts
