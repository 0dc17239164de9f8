"""What the store knows that planning and results ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from farm.inputs import ModelFacts, Ref
from farm.store import Store


def facts_from(store: Store) -> Callable[[str], ModelFacts | None]:
    """What `check` found out of a model, by the key of that step."""

    def facts(key: str) -> ModelFacts | None:
        record = store.record(Ref("check", key))
        if record is None:
            return None
        figures = dict(record.figures)
        return ModelFacts(**{**figures, "classes": tuple(figures["classes"])})

    return facts


def places(row: Mapping[str, Any], store: Store) -> dict[str, str]:
    """Where a leaderboard row's ONNX file and engine lie, as far as it has them."""
    found = {}
    for name, stage, inner in (("onnx", "export", "model.onnx"), ("engine", "build", "engine")):
        if key := row[f"{stage}_key"]:
            path = store.path(Ref(stage, key)) / inner
            if path.exists():
                found[name] = str(path)
    return found
