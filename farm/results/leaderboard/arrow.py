"""Turn rows of the leaderboard into a table of Arrow's and back, and check what another wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import Any

import pyarrow as pa

from farm.engine.status import CellStatus
from farm.errors import InputError
from farm.results.column_kinds import PARTITIONS, Valid, key, state
from farm.results.columns import COLUMNS, SCHEMA_VERSION, Row
from farm.results.names import inner, outer
from farm.store.figures import count, flag, fraction, number, positive, require, size, text

_TYPES: dict[Valid, pa.DataType] = {
    text: pa.string(), key: pa.string(), state: pa.string(), count: pa.int64(), flag: pa.bool_(),
}  # fmt: skip
"""The type of a column, by the test of its values; all others are numbers."""

_EXPECTED: dict[Valid, str] = {
    key: "a key of 64 hex digits",
    state: f"one of: {', '.join(CellStatus)}",
}


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return a table with every column. Those that are not the farm's have the types of their
    values."""
    names = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])
    names = {name: None for name in names if name not in PARTITIONS}
    columns = {outer(name): [row.get(name) for row in rows] for name in names}
    fields = [
        pa.field(outer(name), type_of(name) or pa.infer_type(columns[outer(name)]))
        for name in names
    ]
    schema = pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION)})
    return pa.Table.from_pydict(columns, schema)


def type_of(name: str) -> pa.DataType | None:
    """Return the type of a column; None of one that is not the farm's."""
    return _TYPES.get(COLUMNS[name].valid, pa.float64()) if name in COLUMNS else None


def rows_of(
    table: pa.Table,
    version: int = SCHEMA_VERSION,
    same: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
) -> list[Row]:
    """Return the rows of a table of this schema version, with a value for every column.

    same: the values that all rows have, by column; they come after the cell. only: of the other
    columns those that are wanted.

    Raises:
        InputError: a column is missing, of another type, or holds a value that it cannot.
    """
    given = table.column_names
    table = table.rename_columns([inner(name) for name in given])
    names = table.column_names
    for column in COLUMNS.values():
        if column.required(version) and column.name not in names:
            # Files of schemas before 8 have the names that rows have.
            name = column.name if given == names else outer(column.name)
            raise InputError(f"it has no column {name!r}, as files of schema {version} have")
    columns = {
        name: _values(name, table.column(name))
        for name in dict.fromkeys(names)
        if name not in PARTITIONS
    }
    for name, column in COLUMNS.items():
        if name not in PARTITIONS:
            columns.setdefault(name, [column.before] * table.num_rows)
    if not _sound(columns):
        _refuse(columns)
    columns["reason"] = [
        reason or ("" if status != "ok" else None)
        for reason, status in zip(columns["reason"], columns["status"], strict=True)
    ]
    alike = {name: [value] * table.num_rows for name, value in (same or {}).items()}
    columns = {"cell": columns["cell"], **alike, **columns}
    if only is not None:
        columns = {name: own for name, own in columns.items() if name in only or name in alike}
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


_FITS = {
    # pandas writes whole numbers as floating-point ones where one is missing
    pa.int64(): lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind),
    pa.float64(): lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind),
    pa.string(): lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    pa.bool_(): pa.types.is_boolean,
}


def _values(name: str, column: pa.ChunkedArray) -> list[Any]:
    """The values of a column in its type; a number that is not finite becomes null."""
    found = column.type
    if pa.types.is_dictionary(found):  # as pandas writes categories
        found = found.value_type
    wanted = type_of(name)
    if wanted is None:  # added by another program, of any simple type
        wanted = next((one for one, fits in _FITS.items() if fits(found)), pa.string())
        wanted = pa.float64() if pa.types.is_floating(found) else wanted
    if not _FITS[wanted](found) and not pa.types.is_null(found):
        raise InputError(f"column {outer(name)!r} is of type {found}, expected {wanted}")
    if column.null_count == len(column):
        return [None] * len(column)
    if column.type != found:
        column = column.cast(found)
    values: list[Any] = column.to_pylist()
    # The sum is finite only if all of them are. (Arrow's own way to tell imports pandas.)
    if pa.types.is_floating(found) and not isfinite(sum(filter(None, values))):
        values = [one if one is not None and isfinite(one) else None for one in values]
    if found == wanted:
        return values
    # In Arrow, where a number that does not fit is an error.
    return list(pa.array(values, found).cast(wanted).to_pylist())


_INTERVALS = (count, size, number, positive, fraction)
"""Tests that a column passes if its least and its largest value do."""


def _sound(columns: Mapping[str, Sequence[Any]]) -> bool:
    """Whether every value is one that its column can have. Each distinct one is tested once."""
    for name, column in COLUMNS.items():
        if name in PARTITIONS:
            continue
        values = set(columns[name])
        if None in values and not column.nullable:
            return False
        values -= {None, ""} if column.valid is key else {None}
        if column.valid in _INTERVALS and values:
            values = {min(values), max(values)}
        # The type of a column is one, so a text or a flag is like all others.
        if not all(map(column.valid, [*values][:1] if column.valid in (text, flag) else values)):
            return False
    measured = zip(*(columns[name] for name in _MEASURED), strict=True)
    return not any(status == "ok" and p50 and not rate for status, p50, rate in measured)


_MEASURED = ("status", "latency_p50_ms", "throughput_per_s")


def _refuse(columns: Mapping[str, Sequence[Any]]) -> None:
    """Raise InputError with the first row that has a value which its column cannot have."""
    for position, values in enumerate(zip(*columns.values(), strict=True), start=1):
        try:
            _check(dict(zip(columns, values, strict=True)))
        except InputError as error:
            raise InputError(f"row {position}: {error}") from None


def _check(row: Row) -> None:
    """Check the values of a row. Raises InputError for one that its column cannot have."""
    for name, column in COLUMNS.items():
        if name in PARTITIONS:
            continue
        if row[name] is None and not column.nullable:
            raise InputError(f"{outer(name)!r} is empty")
        value = None if row[name] == "" and column.valid is key else row[name]
        require(outer(name), value, column.valid, _EXPECTED.get(column.valid, ""))
    if row["status"] == "ok" and row["latency_p50_ms"] and not row["throughput_per_s"]:
        raise InputError("it has a latency and no throughput")
