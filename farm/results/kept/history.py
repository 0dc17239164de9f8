"""Earlier figures of cells that were run or measured again: beside the leaderboard, row by row.

    <results>/history/target=<target>/sweep=<sweep>/<time>.parquet

The leaderboard has the figures that count: those of the last measurement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from farm.files import atomic
from farm.results.leaderboard import read_file
from farm.results.leaderboard.arrow import table_of
from farm.store.records import HERE

if TYPE_CHECKING:
    from farm.results.columns import Row

FOLDER = "history"

SHOWN = (
    ("cell", "cell", "{}"),
    ("measured_at", "measured at (UTC)", "{}"),
    ("latency_p50_ms", "p50 ms", "{:.2f}"),
    ("samples", "samples", "{:d}"),
    ("stable", "stable", "{}"),
    ("busy_cores", "busy", "{:.1f}"),
    ("rank", "rank", "{:d}"),
    ("counts", "counts", "{}"),
)
"""The columns of a table of the history: name, heading, format."""


def with_earlier(rows: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """Return all measurements of the cells that have several, with whether each `counts`.

    rows: of the leaderboard. earlier: as `read` returns them.
    """
    several = {(row["target"], row["sweep"], row["cell"]) for row in earlier}
    marked = [{**row, "counts": False} for row in earlier]
    marked += [{**row, "counts": True} for row in rows]
    found = (row for row in marked if (row["target"], row["sweep"], row["cell"]) in several)
    return sorted(found, key=lambda row: (row["target"], row["sweep"], row["cell"], row["counts"]))


def replaced(rows: Sequence[Row], planned: Mapping[str, str | None]) -> list[Row]:
    """Return those rows whose figures a new run of their sweep will replace.

    Cells that are no longer in the matrix are not among them: their figures stay in the store.

    rows: of the leaderboard. planned: the key of the measurement of each cell, as planned now.
    """
    measured = (row for row in rows if row["latency_p50_ms"] is not None and row["origin"] == HERE)
    return [
        row
        for row in measured
        if row["cell"] in planned and planned[row["cell"]] != row["measure_key"]
    ]


def as_before(rows: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """Return the rows as they were before: of each cell its last earlier row, if it has any.

    earlier: as `read` returns them. Cells that are in `earlier` alone are among those returned.
    """
    found = {(row["target"], row["sweep"], row["cell"]): row for row in (*rows, *earlier)}
    return [*found.values()]


def keep(rows: Sequence[Row], folder: Path, sweep: str) -> list[str]:
    """Write rows whose figures new ones will replace. Returns the names of the files.

    Raises:
        OSError: a file cannot be written.
    """
    now = datetime.now(timezone.utc)
    stamp, names = now.strftime("%Y%m%dT%H%M%S.%fZ"), list[str]()
    for target in sorted({row["target"] for row in rows}):
        name = f"{FOLDER}/target={target}/sweep={sweep}/{stamp}.parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(folder / name) as part:
            pq.write_table(table_of([row for row in rows if row["target"] == target]), part)
        names.append(name)
    return names


def read(folder: Path, target: str | None = None, sweep: str | None = None) -> list[Row]:
    """Return the rows that were kept, the earliest first; of one target or sweep.

    Raises:
        InputError: a file is damaged or of a newer version.
    """
    found = (folder / FOLDER).glob(f"target={target or '*'}/sweep={sweep or '*'}/*.parquet")
    ordered = sorted(found, key=lambda path: path.name)
    return [row for path in ordered for row in read_file(path)]
