"""Rows to an Arrow table and back: of this version, of an earlier one, or of another program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from farm.errors import InputError
from farm.results.columns import COLUMNS, PARTITIONS, SCHEMA_VERSION, Row, Valid, key, state
from farm.store.figures import count, flag, require, text

_TYPES: dict[Valid, pa.DataType] = {
    text: pa.string(), key: pa.string(), state: pa.string(), count: pa.int64(), flag: pa.bool_(),
}  # fmt: skip
"""By what a value may be; all others are numbers."""

_EXPECTED: dict[Valid, str] = {key: "a key of 64 hex digits", state: "one of: ok, failed, pending"}


def table_of(rows: Sequence[Row]) -> pa.Table:
    """A table of the schema's types; of columns that are not the farm's, of those they have."""
    names = dict.fromkeys(name for row in rows for name in row if name not in PARTITIONS)
    columns = {name: [row.get(name) for row in rows] for name in names}
    fields = [pa.field(name, _type(name) or pa.infer_type(columns[name])) for name in names]
    schema = pa.schema(fields, metadata={"schema_version": SCHEMA_VERSION})
    return pa.Table.from_pydict(columns, schema)


def _type(name: str) -> pa.DataType | None:
    return _TYPES.get(COLUMNS[name].valid, pa.float64()) if name in COLUMNS else None


def rows_of(table: pa.Table) -> list[Row]:
    """Raises InputError for a column that is missing, of another type, or holds what it cannot."""
    names = table.column_names
    if missing := [c.name for c in COLUMNS.values() if c.needed and c.name not in names]:
        raise InputError(f"it has no column {missing[0]!r}")
    columns = {
        name: _values(name, table.column(name))
        for name in dict.fromkeys(names)
        if name not in PARTITIONS
    }
    for name, column in COLUMNS.items():
        if name not in PARTITIONS:
            columns.setdefault(name, [column.before] * table.num_rows)
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    for position, row in enumerate(rows, start=1):
        try:
            _check(row)
        except InputError as error:
            raise InputError(f"row {position}: {error}") from None
    return rows


_FITS = {
    # pandas writes whole numbers as floating-point ones where one is missing
    pa.int64(): lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind),
    pa.float64(): lambda kind: pa.types.is_floating(kind) or pa.types.is_integer(kind),
    pa.string(): lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    pa.bool_(): pa.types.is_boolean,
}


def _values(name: str, column: pa.ChunkedArray) -> list[Any]:
    """The column as its type; a number that is not finite says nothing."""
    found = column.type
    if pa.types.is_dictionary(found):  # as pandas writes categories
        found = found.value_type
    wanted = _type(name)
    if wanted is None:  # another program's, of any simple type
        wanted = next((one for one, fits in _FITS.items() if fits(found)), pa.string())
        wanted = pa.float64() if pa.types.is_floating(found) else wanted
    if not _FITS[wanted](found) and not pa.types.is_null(found):
        raise InputError(f"column {name!r} is of type {found}, expected {wanted}")
    column = column.cast(found)
    if pa.types.is_floating(found):
        column = pc.if_else(pc.is_finite(column), column, None)
    values: list[Any] = column.cast(wanted).to_pylist()
    return values


def _check(row: Row) -> None:
    """Raises InputError for a value that no row of ours has."""
    for name, column in COLUMNS.items():
        if name in PARTITIONS:
            continue
        if row[name] is None and not column.nullable:
            raise InputError(f"{name!r} is empty")
        value = None if row[name] == "" and column.valid is key else row[name]
        require(name, value, column.valid, _EXPECTED.get(column.valid, ""))
    row["reason"] = row["reason"] or ("" if row["status"] != "ok" else None)
    if row["status"] == "ok" and row["latency_p50_ms"] and not row["throughput_per_s"]:
        raise InputError("it has a latency and no throughput")
