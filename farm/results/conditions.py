"""Conditions on rows of the leaderboard, as people write them: `engine_bytes < 50MB`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from farm.engine.status import CellStatus
from farm.errors import InputError, nearest
from farm.errors import shown as quoted
from farm.results.column_kinds import Column, key, state
from farm.results.columns import COLUMNS, Row
from farm.results.names import inner, outer
from farm.store.figures import count, flag, fraction, text
from farm.terminal import plain
from farm.units import UNITS

OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "=": operator.eq, "!=": operator.ne,
}  # fmt: skip

_FORM = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*", re.S)
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\D*)")

_TEXTS = (text, key, state)
"""The tests of values by which a column holds texts."""

_UNITS: Mapping[str, Mapping[str, float]] = {
    "bytes": {name.lower(): size for name, size in UNITS.items()},
    "ms": {"ms": 1, "s": 1000},
    "s": {"s": 1, "ms": 0.001, "m": 60, "h": 3600},
    "images/s": {"images/s": 1, "img/s": 1},
    "pixels": {"px": 1, "pixels": 1},
}
"""The units that a number may have, by the unit of its column; without one it is the column's."""

_BOUNDS = {
    "<": "expected under", "<=": "at most", ">": "expected over", ">=": "at least",
    "=": "expected", "!=": "expected another than",
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """What the value of a column must be.

    value: in the unit of the column; None stands for no value. text: the option that states it.
    verb: what messages say of a value, as "takes"; by default "has COLUMN".
    """

    column: str
    operator: str
    value: float | bool | str | None
    text: str
    verb: str = ""

    def met(self, row: Row) -> bool:
        """Return whether a row meets it. One without a value meets `!=` alone, and `= -`."""
        own = row.get(self.column)
        if own is None or self.value is None:
            return (own is self.value) != (self.operator == "!=")
        if isinstance(self.value, str):
            alike = fnmatchcase(str(own), self.value.replace("[", "[[]"))
            return alike == (self.operator == "=")
        return OPERATORS[self.operator](own, self.value)

    def missed_by(self, row: Row) -> float | None:
        """Return by how much the number of a row misses it; None if that is no matter of degree."""
        own = row.get(self.column)
        if own is None or not isinstance(self.value, int | float) or self.operator in ("=", "!="):
            return None
        missed: float = abs(own - self.value)
        return missed

    def reason(self, row: Row) -> str:
        """Return why a row does not meet it: what its value is, and what was expected."""
        if row.get(self.column) is None:
            return f"has no {outer(self.column)}"
        return f"{self._has(row)}, {_BOUNDS[self.operator]} {shown(self._column, self.value)}"

    def miss(self, row: Row) -> str:
        """Return what a row's value is and by how much it misses the condition."""
        missed = self.missed_by(row)
        if not missed:
            return self.reason(row)
        side = "over" if self.operator in ("<", "<=") else "under"
        return f"{self._has(row)}, {shown(self._column, missed)} {side}"

    @property
    def _column(self) -> Column:
        return COLUMNS[self.column]

    def _has(self, row: Row) -> str:
        said = self.verb or f"has {outer(self.column)}"
        return f"{said} {shown(self._column, row.get(self.column))}"


def parse(written: str) -> Condition:
    """Parse a condition: a column, an operator and a value.

    Numbers may have a unit (`50MB`, `20ms`), also `%` where the column has none. In texts `*` and
    `?` stand for any characters. `-` stands for no value, as in tables.

    Raises:
        InputError: it is no condition, the column is not known, or the value does not fit it.
    """
    found = _FORM.fullmatch(written)
    if not found or not found[3]:
        raise InputError(
            f"{quoted(written)} is no condition; expected a column, one of {', '.join(OPERATORS)}, "
            "and a value, as in 'engine_bytes < 50MB'"
        )
    column, sign = column_of(found[1]), found[2].replace("==", "=")
    value = None if found[3] == "-" else _value(column, _unquoted(found[3]))
    ordered = not isinstance(value, bool | str | None)
    if not ordered and sign not in ("=", "!="):
        what = (
            "no value" if value is None else "true or false" if value in (True, False) else "text"
        )
        raise InputError(f"{quoted(written)}: {sign} compares numbers; for {what} use = or !=")
    return Condition(column.name, sign, value, f"--where {quoted(' '.join(written.split()))}")


def column_of(name: str) -> Column:
    """Return the column of this name, as files have it or as rows do.

    Raises:
        InputError: there is none; it names the columns whose names contain this, else the nearest.
    """
    if inner(name) not in COLUMNS:
        known = [*map(outer, COLUMNS)]
        parts = [one for one in known if name and name.lower() in one.lower()]
        meant = f"; did you mean one of: {', '.join(parts)}?" if parts else nearest(name, known)
        raise InputError(f"no column {quoted(name)}{meant}")
    return COLUMNS[inner(name)]


def is_number(column: Column) -> bool:
    """Return whether the values of a column are numbers."""
    return column.valid not in (*_TEXTS, flag)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _value(column: Column, written: str) -> float | bool | str:
    """Parse a value of the column. Raises InputError if it can have no such value."""
    if column.valid is flag:
        known = {"true": True, "yes": True, "false": False, "no": False}
        if written.lower() not in known:
            raise InputError(f"{quoted(written)}: {outer(column.name)} is true or false")
        return known[written.lower()]
    if is_number(column):
        return _number(column, written)
    states = [status.value for status in CellStatus]
    if column.valid is state and written not in states:
        raise InputError(f"no {column.name} {quoted(written)}{nearest(written, states)}")
    return written


def _number(column: Column, written: str) -> float:
    units = _UNITS.get(column.unit, {} if column.valid is count else {"%": 0.01})
    found = _NUMBER.fullmatch(written)
    unit = found[2].strip().lower() if found else ""
    if not found or (unit and unit not in units):
        may = f", perhaps with a unit ({', '.join(_names(column, units))})" if units else ""
        raise InputError(f"{quoted(written)}: {outer(column.name)} is a number{may}")
    value = float(found[1]) * (units[unit] if unit else 1)
    if not math.isfinite(value) or (column.valid is fraction and not 0 <= value <= 1):
        between = "from 0 to 1 (0.4 or 40%)" if column.valid is fraction else "finite"
        raise InputError(f"{quoted(written)}: {outer(column.name)} is {between}")
    return int(value) if value.is_integer() else value


def _names(column: Column, units: Mapping[str, float]) -> list[str]:
    return list(UNITS) if column.unit == "bytes" else list(units)


def shown(column: Column, value: Any) -> str:
    """Return a value of a column for texts, with its unit."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return plain(str(value)).lower() if isinstance(value, bool) else plain(value)
    if column.unit == "bytes":
        return decimal_size(value)
    if column.unit in ("ms", "s"):
        return f"{value:.2f} {column.unit}"
    number = f"{value:.4f}" if column.valid is fraction else f"{value:.6g}"
    return f"{number} {column.unit}".rstrip()


def decimal_size(count: float) -> str:
    """Return a number of bytes in the largest unit that it has one of: 52428800 -> '52.4 MB'."""
    for unit in ("TB", "GB", "MB", "KB"):
        if count >= UNITS[unit]:
            return f"{count / UNITS[unit]:.1f} {unit}"
    return f"{count:g} B"
