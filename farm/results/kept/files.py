"""Where the files of a cell lie: its ONNX file and its engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.specs import Ref
from farm.store.records import HERE

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.store import Store


def places(row: Row, store: Store) -> dict[str, str]:
    """Return where a row's ONNX file and engine lie, as far as they are in the store."""
    found: dict[str, str] = {}
    if row["origin"] != HERE:
        return found
    file = "convert" if row["convert_key"] else "export"
    for name, stage, inner in (("onnx", file, "model.onnx"), ("engine", "build", "engine")):
        key = row[f"{stage}_key"]
        if key and (where := store.where(Ref(stage, key), inner)):
            found[name] = where
    return found
