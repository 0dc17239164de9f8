"""What of a leaderboard is shown: which rows, in which order, and which columns of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from farm.errors import InputError
from farm.results.columns import COLUMNS, Row
from farm.results.conditions import Condition, column_of, is_number
from farm.results.names import outer


@dataclass(frozen=True)
class View:
    """The rows, order and columns that were asked for.

    where: conditions that rows must meet, all of them. sort: columns to sort by, each with whether
    the largest value is first; () for the order of the leaderboard. columns: () for those of the
    format. top: how many rows at most.
    """

    where: tuple[Condition, ...] = ()
    sort: tuple[tuple[str, bool], ...] = ()
    columns: tuple[str, ...] = ()
    top: int | None = None

    @property
    def looked_at(self) -> frozenset[str]:
        """The columns that it looks at."""
        named = (*(one.column for one in self.where), *(name for name, _ in self.sort))
        return frozenset((*named, *self.columns))

    def of(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that it shows, in its order. Those without a value are last."""
        found = [row for row in rows if all(one.met(row) for one in self.where)]
        for name, largest_first in reversed(self.sort):
            known = [row for row in found if row.get(name) is not None]
            known.sort(key=lambda row: row[name], reverse=largest_first)
            found = known + [row for row in found if row.get(name) is None]
        return found[: self.top]

    def cut(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows with its columns alone; with every column where it names none."""
        if not self.columns:
            return rows
        return [{name: row.get(name) for name in self.columns} for row in rows]

    def shown(self) -> list[tuple[str, str, str]]:
        """Return its columns for a table: name, heading, format."""
        return [(name, COLUMNS[name].heading or outer(name), _form(name)) for name in self.columns]


def _form(name: str) -> Any:
    column = COLUMNS[name]
    # Ten digits show every size in full; a column without a heading has no form of its own.
    return column.form if column.heading or not is_number(column) else "{:.10g}"


def parse_columns(written: str) -> tuple[str, ...]:
    """Parse names of columns with commas between them. Raises InputError for an unknown one."""
    return tuple(dict.fromkeys(column_of(name).name for name in _names(written)))


def parse_sort(written: str) -> tuple[tuple[str, bool], ...]:
    """Parse columns to sort by; a `-` before one puts its largest value first.

    Raises:
        InputError: a column is not known.
    """
    return tuple((column_of(name.lstrip("-")).name, name[0] == "-") for name in _names(written))


def _names(written: str) -> list[str]:
    names = [name.strip() for name in written.split(",")]
    if not all(names):
        raise InputError("expected names of columns with commas between them")
    return names
