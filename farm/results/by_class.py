"""AP by class: a row for each cell and class."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from farm.errors import InputError
from farm.store.figures import fraction

if TYPE_CHECKING:
    from farm.results.columns import Row

CLASS_COLUMNS = (
    ("cell", "cell", "{}"),
    ("class", "class", "{}"),
    ("box_ap", "box AP", "{:.4f}"),
    ("mask_ap", "mask AP", "{:.4f}"),
)
"""Column, heading, format."""


def by_class(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each class of each cell, in the order of the cells and of their classes.

    Raises:
        InputError: no cell has AP by class, or the column holds something else.
    """
    found = [one for row in rows for one in _classes(row)]
    if not found:
        raise InputError("no cell has AP by class; run the sweep again to get it")
    return found


def _classes(row: Row) -> Iterator[Row]:
    box, mask = (_class_aps(row, f"{kind}_ap_by_class") for kind in ("box", "mask"))
    for name in dict.fromkeys([*box, *mask]):
        yield {
            "sweep": row["sweep"],
            "cell": row["cell"],
            "class": name,
            "box_ap": box.get(name),
            "mask_ap": mask.get(name),
        }


def _class_aps(row: Row, column: str) -> Mapping[str, float | None]:
    if row[column] is None:
        return {}
    try:
        found: Any = json.loads(row[column])
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(v is None or fraction(v) for v in found.values()):
        raise InputError(f"{column} of {row['cell']} is no mapping of classes to AP")
    return found
