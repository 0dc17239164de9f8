"""Read and write the leaderboard: Parquet files that pandas and DuckDB read as one table."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from farm.errors import InputError, nearest
from farm.files import atomic
from farm.files.jsonfile import read_bytes
from farm.results.column_kinds import PARTITIONS
from farm.results.columns import SCHEMA_VERSION, Row
from farm.results.leaderboard.arrow import rows_of, table_of

log = logging.getLogger(__name__)

_MOST_BYTES = 256 << 20
"""Of a file, and of its content when it is decompressed; 100,000 cells have 50 MB."""


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


def read(
    folder: Path,
    target: str | None = None,
    sweep: str | None = None,
    only: Collection[str] | None = None,
) -> list[Row]:
    """Return the rows of all sweeps, or of one target or sweep.

    only: the columns that are wanted, beside target and sweep; all are checked.

    Raises:
        InputError: there is no leaderboard, target or sweep, or a file cannot be read.
    """
    root = folder / "leaderboard"
    found = sorted(root.glob("target=*/sweep=*/*.parquet"))
    if not found:
        raise InputError("no leaderboard here; `farm run MATRIX` makes one", str(folder))
    rows = [row for path in found for row in read_file(path, only)]
    for name, wanted in (("target", target), ("sweep", sweep)):
        known = {str(row[name]) for row in rows}
        if wanted is not None and wanted not in known:
            raise InputError(f"no {name} {wanted!r}{nearest(wanted, known)}", str(root))
        rows = [row for row in rows if wanted in (None, row[name])]
    return rows


def of_sweep(folder: Path, sweep: str, target: str = "*") -> list[Row]:
    """Return the rows of one sweep, of one target or of all, if there are any.

    Raises:
        InputError: a file is damaged or of a newer version.
    """
    found = (folder / "leaderboard").glob(f"target={target}/sweep={sweep}/*.parquet")
    return [row for path in sorted(found) for row in read_file(path)]


def read_file(path: Path, only: Collection[str] | None = None) -> list[Row]:
    """Return the rows of one file; see `read`. Raises InputError, with the file's name."""
    try:
        with pq.ParquetFile(pa.BufferReader(read_bytes(path, _MOST_BYTES))) as file:
            version = _version(file.schema_arrow.metadata or {})
            if version > SCHEMA_VERSION:
                raise InputError(_NEWER.format(version, SCHEMA_VERSION), str(path))
            _require_size(file.metadata)
            parts = dict(part.split("=", 1) for part in path.parts if "=" in part)
            same = {name: parts[name] for name in PARTITIONS}
            # Threads of Arrow's may abort the process at its end, and save no time here.
            rows = rows_of(file.read(use_threads=False), version, same, only)
            log.debug(f"{path}: {len(rows)} rows of schema {version}")
    except InputError as error:
        if error.where:
            raise
        raise InputError(f"{error}; {_REMEDY}", str(path)) from None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        reason = f"not a leaderboard that can be read ({type(error).__name__}: {error})"
        raise InputError(f"{reason}; {_REMEDY}", str(path)) from None
    return rows


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
