"""Read and write the leaderboard: Parquet files that pandas and DuckDB read as one table."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from farm import atomic
from farm.errors import InputError, nearest
from farm.jsonfile import read_bytes
from farm.results.columns import (
    COLUMNS,
    PARTITIONS,
    SCHEMA_VERSION,
    Row,
    Valid,
    key,
    state,
)
from farm.store.figures import count, flag, require, text

log = logging.getLogger(__name__)

_TYPES: dict[Valid, pa.DataType] = {
    text: pa.string(), key: pa.string(), state: pa.string(), count: pa.int64(), flag: pa.bool_(),
}  # fmt: skip
"""The type of a column, by the test of its values; all others are numbers."""

_EXPECTED: dict[Valid, str] = {key: "a key of 64 hex digits", state: "one of: ok, failed, pending"}

_MOST_BYTES = 256 << 20
"""Of a file, and of its content when it is decompressed; 100,000 cells have 50 MB."""


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return a table with every column. Those that are not the farm's have the types of their
    values."""
    names = dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)])
    names = {name: None for name in names if name not in PARTITIONS}
    columns = {name: [row.get(name) for row in rows] for name in names}
    fields = [pa.field(name, _type(name) or pa.infer_type(columns[name])) for name in names]
    schema = pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION)})
    return pa.Table.from_pydict(columns, schema)


def _type(name: str) -> pa.DataType | None:
    return _TYPES.get(COLUMNS[name].valid, pa.float64()) if name in COLUMNS else None


def rows_of(table: pa.Table, version: int = SCHEMA_VERSION) -> list[Row]:
    """Return the rows of a table of this schema version, with a value for every column.

    Raises:
        InputError: a column is missing, of another type, or holds a value that it cannot.
    """
    names = table.column_names
    for column in COLUMNS.values():
        if column.required(version) and column.name not in names:
            raise InputError(f"it has no column {column.name!r}, as files of schema {version} have")
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
    """The values of a column in its type; a number that is not finite becomes null."""
    found = column.type
    if pa.types.is_dictionary(found):  # as pandas writes categories
        found = found.value_type
    wanted = _type(name)
    if wanted is None:  # added by another program, of any simple type
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
    """Check the values of a row. Raises InputError for one that its column cannot have."""
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


def write(rows: Sequence[Row], folder: Path, sweep: str, complete: bool = True) -> list[Path]:
    """Replace the sweep's files under `folder`, and return them.

    complete: the rows are all of the sweep's, so that files of other targets are removed.

    Raises:
        OSError: a file cannot be written.
    """
    root = folder / "leaderboard"
    written = []
    for target in sorted({row["target"] for row in rows}):
        own = [row for row in rows if row["target"] == target]
        path = root / f"target={target}" / f"sweep={sweep}" / "leaderboard.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path) as part:
            pq.write_table(table_of(own), part)
        written.append(path)
    for old in root.glob(f"target=*/sweep={sweep}") if complete else ():
        if old / "leaderboard.parquet" not in written:
            shutil.rmtree(old, ignore_errors=True)  # the matrix no longer has this target
    return written


def read(folder: Path, target: str | None = None, sweep: str | None = None) -> list[Row]:
    """Return the rows of all sweeps, or of one target or sweep.

    Raises:
        InputError: there is no leaderboard, target or sweep, or a file cannot be read.
    """
    root = folder / "leaderboard"
    found = sorted(root.glob("target=*/sweep=*/*.parquet"))
    if not found:
        raise InputError("no leaderboard here; `farm run MATRIX` makes one", str(folder))
    rows = [row for path in found for row in _read_file(path)]
    for name, wanted in (("target", target), ("sweep", sweep)):
        known = {str(row[name]) for row in rows}
        if wanted is not None and wanted not in known:
            raise InputError(f"no {name} {wanted!r}{nearest(wanted, known)}", str(root))
        rows = [row for row in rows if wanted in (None, row[name])]
    return rows


def of_sweep(folder: Path, sweep: str, target: str) -> list[Row]:
    """Return the rows of one sweep and target, if there are any.

    Raises:
        InputError: a file is damaged or of a newer version.
    """
    found = folder / "leaderboard" / f"target={target}" / f"sweep={sweep}"
    return [row for path in sorted(found.glob("*.parquet")) for row in _read_file(path)]


def _read_file(path: Path) -> list[Row]:
    """Read a leaderboard file. Raises InputError, with the file's name."""
    try:
        with pq.ParquetFile(pa.BufferReader(read_bytes(path, _MOST_BYTES))) as file:
            version = _version(file.schema_arrow.metadata or {})
            if version > SCHEMA_VERSION:
                raise InputError(_NEWER.format(version, SCHEMA_VERSION), str(path))
            _require_size(file.metadata)
            rows = rows_of(file.read(), version)
            log.debug(f"{path}: {len(rows)} rows of schema {version}")
    except InputError as error:
        if error.where:
            raise
        raise InputError(f"{error}; {_REMEDY}", str(path)) from None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        reason = f"not a leaderboard that can be read ({type(error).__name__}: {error})"
        raise InputError(f"{reason}; {_REMEDY}", str(path)) from None
    parts = dict(part.split("=", 1) for part in path.parts if "=" in part)
    identity = {name: parts[name] for name in PARTITIONS}
    return [{"cell": row["cell"], **identity, **row} for row in rows]


_REMEDY = "remove it and run its sweep again"
_NEWER = (
    "written by a newer farm (schema {}; this version reads up to {}): update this farm, or give "
    "other --results"
)


def _version(metadata: Mapping[bytes, bytes]) -> int:
    """The schema version that a file states; 1 where it states none, as after pandas rewrote it.

    Raises InputError.
    """
    version = metadata.get(b"schema_version", b"1").decode(errors="replace")
    if not version.isascii() or not version.isdigit():
        raise InputError(f"its schema_version is {version[:20]!r}, expected a whole number")
    return int(version[:9])


def _require_size(metadata: pq.FileMetaData) -> None:
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if size > _MOST_BYTES or metadata.num_rows > _MOST_BYTES >> 8:
        raise InputError(f"it unpacks to more than {_MOST_BYTES} bytes")
