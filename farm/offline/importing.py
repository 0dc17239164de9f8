"""`farm import`: import the records of another machine, and write their leaderboard."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from farm.cli.results import results_of
from farm.config.schema import VerifySpec
from farm.engine.status import counted
from farm.errors import InputError
from farm.offline import manifest, records
from farm.offline.manifest import Manifest
from farm.plan import Plan
from farm.results.columns import Row
from farm.results.rows import imported_rows
from farm.results.tables.render import render
from farm.results.tracking.follower import Tracker
from farm.store.records import HERE

log = logging.getLogger(__name__)


def run(options: argparse.Namespace) -> int:
    """Import a file of records. Returns 0, also where cells failed.

    Raises:
        InputError: the file is damaged or changed, or not a file of records.
    """
    results = results_of(options.results)
    store = results.store()
    with tempfile.TemporaryDirectory(prefix="farm-import-") as scratch:
        folder = records.extract(options.records, Path(scratch))
        with _errors_with_name(folder, options.records):
            sweep = records.read_records(folder)
            tolerances = _tolerances(sweep.verify, folder / manifest.NAME)
        known = [row for target in sweep.targets for row in results.of_sweep(sweep.name, target)]
        count = records.import_records(sweep, folder, store, options.records.resolve().name)
        digest = records.import_digest(folder)
    rows = imported_rows(_plan(sweep), store, digest, tolerances, sweep.reasons)
    merged = merged_rows(known, rows)
    results.write(merged, sweep.name, complete=False)
    print(render(rows, "table"), flush=True)
    if not options.no_mlflow:
        Tracker(sweep.name, results.folder, store, str(results)).close(merged)
    states = counted(row["status"] for row in rows)
    log.info(f"\n{states}; {count} new records. Results: {results}")
    if own := sum(row["origin"] == HERE for row in merged):
        targets = ", ".join(sweep.targets)
        log.info(f"{own} cells of {sweep.name} on {targets} keep the figures that were made here.")
    return 0


def _plan(sweep: Manifest) -> Plan:
    return Plan(sweep.name, sweep.cells, {}, (), ())


def merged_rows(known: Sequence[Row], imported: Sequence[Row]) -> list[Row]:
    """Merge the rows, one per cell. Rows that were made here stay as they are, and a row of a cell
    that the import has not finished replaces none."""
    rows = {row["cell"]: row for row in known}
    own = {cell for cell, row in rows.items() if row["origin"] == HERE}
    done = {cell for cell, row in rows.items() if row["status"] != "pending"}
    for row in imported:
        cell = row["cell"]
        if cell not in done or (cell not in own and row["status"] != "pending"):
            rows[cell] = row
    return list(rows.values())


@contextmanager
def _errors_with_name(folder: Path, archive: Path) -> Iterator[None]:
    """Name the archive in errors, in place of the folder that it was unpacked to."""
    try:
        yield
    except InputError as error:
        raise InputError(error.message, error.where.replace(str(folder), str(archive))) from None


def _tolerances(values: dict[str, object], where: Path) -> VerifySpec:
    try:
        return VerifySpec.model_validate(values)
    except ValidationError as error:
        reason = error.errors()[0]
        name = ".".join(map(str, reason["loc"]))
        raise InputError(f"'verify.{name}': {reason['msg']}", str(where)) from None
