"""`farm import`: records from another machine into this store, and their leaderboard."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from farm.acceptance import records
from farm.errors import InputError
from farm.matrix.schema import VerifySpec
from farm.places import results_folder, store_folder
from farm.plan import Plan
from farm.progress import say
from farm.results import leaderboard
from farm.results.rows import make_rows
from farm.results.show import render
from farm.store import Store
from farm.sweep import track


def run(options: argparse.Namespace) -> int:
    """Returns 0 for records that are in the store now, however their cells ended."""
    results = results_folder(options.results)
    store = Store(store_folder(results))
    with tempfile.TemporaryDirectory(prefix="farm-import-") as scratch:
        folder = records.opened(options.records, Path(scratch))
        with _named(folder, options.records):
            sweep = records.read(folder)
            limits = _limits(sweep.verify, folder / records.NAME)
            count = records.take_in(sweep, folder, store)
    plan = Plan(sweep.name, sweep.cells, {}, (), ())
    rows = make_rows(plan, store, limits, sweep.reasons)
    leaderboard.write(rows, results, sweep.name, whole=False)
    if not options.no_mlflow:
        track(sweep.name, rows, store, results)
    print(render(rows, "table"))
    failed = sum(row["status"] != "ok" for row in rows)
    say(f"\n{len(rows)} cells, {failed} not ok; {count} new records. Results: {results}")
    return 0


@contextmanager
def _named(folder: Path, given: Path) -> Iterator[None]:
    """What is wrong in an archive is told by its own name, not by where it was unpacked."""
    try:
        yield
    except InputError as error:
        raise InputError(error.message, error.where.replace(str(folder), str(given))) from None


def _limits(values: dict[str, object], where: Path) -> VerifySpec:
    try:
        return VerifySpec.model_validate(values)
    except ValidationError as error:
        reason = error.errors()[0]
        name = ".".join(map(str, reason["loc"]))
        raise InputError(f"'verify.{name}': {reason['msg']}", str(where)) from None
