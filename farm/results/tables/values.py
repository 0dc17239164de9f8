"""How tables write the values of columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from farm.results.tables.marks import Marked
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row

Shown = tuple[str, str, str]
"""A column of a table: its name in rows, heading, format."""


def value_text(value: Any, pattern: str) -> str:
    """Return the text of a value by the format of its column; `-` for none."""
    if value is None:
        return "-"
    if isinstance(value, Marked):
        return value
    # Adding 0.0 turns -0.0 into 0.0: "-0.0000" would look like a difference.
    return plain(pattern.format(round(value, 4) + 0.0 if isinstance(value, float) else value))


def texts(rows: Sequence[Row], column: Shown, escaped: Callable[[str], str]) -> list[str]:
    """Return the texts of a column's values, which are of one type; equal ones are made once."""
    name, _, form = column
    values: list[Any] = [row.get(name) for row in rows]
    made = {value: escaped(value_text(value, form)) for value in set(values)}
    return [made[value] for value in values]


def is_numeric(column: Shown) -> bool:
    """Return whether a column has numbers, which stand under one another by their last digits."""
    name, _, form = column
    return form != "{}" or name == "opset"
