"""The leaderboard: Parquet files that pandas and DuckDB read as one table.

    <results>/leaderboard/target=<target>/sweep=<sweep>/leaderboard.parquet

`target` and `sweep` are in the path and not in the file, as Hive's partitions are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from farm.errors import InputError, nearest
from farm.jsonfile import read_bytes
from farm.results.columns import PARTITIONS, SCHEMA_VERSION, Row
from farm.results.parquet import rows_of, table_of

_MOST_BYTES = 256 << 20
"""Of a file, and of all that it unpacks to: a hundred thousand cells have 50 MB."""


def write(rows: Sequence[Row], folder: Path, sweep: str, whole: bool = True) -> list[Path]:
    """Replace the sweep's files under `folder`; each by temporary file and rename.

    whole: the rows are all of the sweep's; else its other targets stay as they are.
    """
    root = folder / "leaderboard"
    written = []
    for target in sorted({row["target"] for row in rows}):
        own = [row for row in rows if row["target"] == target]
        place = root / f"target={target}" / f"sweep={sweep}" / "leaderboard.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{os.getpid()}.part")
        pq.write_table(table_of(own), part)
        part.replace(place)
        written.append(place)
    for old in root.glob(f"target=*/sweep={sweep}") if whole else ():
        if old / "leaderboard.parquet" not in written:
            shutil.rmtree(old, ignore_errors=True)  # a target that the matrix no longer names
    return written


def read(folder: Path, target: str | None = None, sweep: str | None = None) -> list[Row]:
    """Rows of all sweeps, or of one target or sweep. Raises InputError if there is none."""
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
    """The rows of one sweep and target; none where there is no such file. Raises InputError."""
    found = folder / "leaderboard" / f"target={target}" / f"sweep={sweep}"
    return [row for path in sorted(found.glob("*.parquet")) for row in _read_file(path)]


def _read_file(path: Path) -> list[Row]:
    """Raises InputError, with the file's name, for what is no leaderboard that can be read."""
    try:
        with pq.ParquetFile(pa.BufferReader(read_bytes(path, _MOST_BYTES))) as file:
            _require_version(file.schema_arrow.metadata or {})
            _require_size(file.metadata)
            rows = rows_of(file.read())
    except InputError as error:
        raise InputError(f"{error}; {_MEND}", str(path)) from None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        reason = f"not a leaderboard that can be read ({type(error).__name__}: {error})"
        raise InputError(f"{reason}; {_MEND}", str(path)) from None
    parts = dict(part.split("=", 1) for part in path.parts if "=" in part)
    identity = {name: parts[name] for name in PARTITIONS}
    return [{"cell": row["cell"], **identity, **row} for row in rows]


_MEND = "remove it and run its sweep again"


def _require_version(metadata: dict[bytes, bytes]) -> None:
    """Raises InputError for a later version, whose columns may mean something else."""
    version = metadata.get(b"schema_version", b"0").decode(errors="replace")
    if not version.isascii() or not version.isdigit():
        raise InputError(f"its schema_version is {version[:20]!r}, which is no number")
    if int(version[:9]) > int(SCHEMA_VERSION):
        raise InputError(
            f"written by a newer farm (schema {version[:9]}; this one reads up to "
            f"{SCHEMA_VERSION}): use that one"
        )


def _require_size(metadata: pq.FileMetaData) -> None:
    size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    if size > _MOST_BYTES or metadata.num_rows > _MOST_BYTES >> 8:
        raise InputError(f"it unpacks to more than {_MOST_BYTES} bytes")
