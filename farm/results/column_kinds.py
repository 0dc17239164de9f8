"""What a column of the leaderboard is, and the kinds of columns by where their values come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.engine.status import CellStatus
from farm.store.figures import number, positive, text

if TYPE_CHECKING:
    from farm.results.cells import CellResults

Valid = Callable[[Any], bool]

PARTITIONS = ("target", "sweep")
"""In the path of a leaderboard file and not in the file."""


@dataclass(frozen=True)
class Column:
    """One column: what it says of a cell, and how it is stored and shown.

    valid: tests a value, and decides the type in the file. nullable: a value may be null.
    source: the stage whose record has the value, or what else it is made of.
    since: the schema version from which on every file has the column; None for a column of another
    package, which any file may lack. before: its value in the rows of files that lack it.
    heading, form: in tables; a column without a heading is in files alone.
    """

    name: str
    valid: Valid
    source: str
    value: Callable[[CellResults], Any]
    unit: str = ""
    heading: str = ""
    form: str = "{}"
    since: int | None = 1
    before: Any = None
    nullable: bool = True

    def required(self, version: int) -> bool:
        """Return whether every file of this schema version has the column."""
        return self.name not in PARTITIONS and self.since is not None and self.since <= version


def key(value: Any) -> bool:
    """Return whether a value is the key of a step."""
    return text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None


def state(value: Any) -> bool:
    """Return whether a value is the status of a cell."""
    return value in {status.value for status in CellStatus}


def figure(stage: str, name: str, valid: Valid, column: str = "", **more: Any) -> Column:
    """Return a column for a figure of the stage's record."""
    return Column(column or name, valid, stage, lambda cell: cell.figure(stage, name), **more)


def cost(stage: str, name: str, column: str, valid: Valid, **more: Any) -> Column:
    """Return a column for what the step itself took."""
    return Column(column, valid, stage, lambda c: getattr(c.records.get(stage), name, None), **more)


def axis(name: str, valid: Valid = text, **more: Any) -> Column:
    """Return a column for a field of the cell as the matrix has it."""
    return Column(name, valid, "matrix", lambda cell: getattr(cell.planned.cell, name), **more)


def agreement(name: str, valid: Valid = number, **more: Any) -> Column:
    """Return a column for how far the engine is from its reference; see `Agreement`."""
    return Column(name, valid, "verify", lambda cell: getattr(cell.agreement, name, None), **more)


def latency(name: str, valid: Valid, **more: Any) -> Column:
    """Return a column for a figure of the latency; see `CellResults.latency`."""
    return Column(name, valid, "measure, compare", lambda cell: cell.latency(name), **more)


def comparison(name: str, valid: Valid = positive, since: int = 7, **more: Any) -> Column:
    """Return a column for what the comparison found of the cell's engine."""
    return Column(name, valid, "compare", lambda c: c.compared(name), since=since, **more)


def interval(name: str, since: int = 7, **more: Any) -> Iterator[Column]:
    """Yield the columns for a ratio that the comparison found, and for the ends of its interval."""
    yield comparison(name, since=since, **more)
    yield from (comparison(f"{name}_{end}") for end in ("low", "high"))
