"""One cell again: every step of it in this process, in a store of its own, with full logs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

from farm import jsonfile
from farm.cli.places import store_folder
from farm.config.loader import Document, Matrix, validate
from farm.console import table
from farm.engine.local import InlineExecutor
from farm.engine.scheduler import Outcome, run_steps
from farm.errors import InputError, InputErrors, nearest
from farm.plan import Plan, PlannedCell, Step, make_plan
from farm.results import leaderboard
from farm.results.columns import Row
from farm.results.rows import make_rows
from farm.store import Store
from farm.sweep import checked_plan, manifest_path

log = logging.getLogger(__name__)

_COMPARED = (
    "status",
    "box_ap",
    "mask_ap",
    "matched_fraction",
    "max_score_diff",
    "max_rel_diff",
    "latency_p50_ms",
)


def reproduce(cell: str, results: Path, sweep: str | None) -> int:
    """Prints the recorded figures beside the new ones; 0 if the cell ends as it is recorded."""
    recorded = _recorded(cell, results, sweep)
    matrix = _matrix(results, recorded["sweep"])
    store = Store(store_folder(results))
    if missing := make_plan(matrix).missing:
        raise InputErrors(missing)
    plan = checked_plan(matrix, store, lambda: InlineExecutor(store), retry_failed=False)
    planned = next((one for one in plan.cells if one.cell.id == cell), None)
    if planned is None:
        raise InputError(f"the matrix no longer has the cell {cell}", str(results))
    with tempfile.TemporaryDirectory(prefix="farm-reproduce-") as folder:
        again = _again(matrix, plan, planned, Store(folder))
    figures = [(name, _text(recorded[name]), _text(again[name])) for name in _COMPARED]
    print(table(("figure", "recorded", "again"), figures, (False, True, True)))
    if again["reason"]:
        print(f"failed at {again['failed_stage']}: {again['reason']}")
    return 0 if again["status"] == recorded["status"] else 1


def _recorded(cell: str, results: Path, sweep: str | None) -> Row:
    rows = leaderboard.read(results, sweep=sweep)
    found = [row for row in rows if row["cell"] == cell]
    if not found:
        known = [row["cell"] for row in rows]
        raise InputError(f"no cell {cell!r}{nearest(cell, known)}", str(results))
    if len(found) > 1:
        names = ", ".join(row["sweep"] for row in found)
        raise InputError(f"several sweeps have it ({names}): give --sweep", cell)
    return found[0]


def _matrix(results: Path, sweep: str) -> Matrix:
    path = manifest_path(results, sweep)
    try:
        kept = jsonfile.read(path)
        document = Document(Path(kept["matrix"]), dict(kept["values"]))
        document.path.resolve()
    except PermissionError:
        reason = "the sweep's matrix is its owner's alone, since variables are filled in"
        raise InputError(f"{reason}: reproduce as that user, or run it again", str(path)) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError("the sweep's matrix is not kept here; run it again", str(path)) from None
    try:
        return validate(document)
    except InputError as error:
        raise InputError(
            f"not a matrix of this version ({error}); run it again", str(path)
        ) from None


def _again(matrix: Matrix, plan: Plan, planned: PlannedCell, store: Store) -> Row:
    steps = _with_parents(plan, planned.steps.values())
    outcomes = run_steps(steps, store, lambda: InlineExecutor(store, echo=True), _Lines())
    only = Plan(plan.name, (planned,), plan.steps, (), ())
    bad = {
        key: one.reason for key, one in outcomes.items() if one.status not in ("done", "blocked")
    }
    return make_rows(only, store, matrix.spec.verify, bad)[0]


def _with_parents(plan: Plan, keys: Iterable[str]) -> dict[str, Step]:
    """The steps and all they wait for: a shared step's parent may be another model's check."""
    wanted, left = set[str](), list(keys)
    while left:
        key = left.pop()
        if key not in wanted:
            wanted.add(key)
            left += plan.steps[key].parents
    return {key: step for key, step in plan.steps.items() if key in wanted}


class _Lines:
    def started(self, step: Step) -> None:
        log.info(f"== {step.stage} {step.label}")

    def ended(self, step: Step, outcome: Outcome) -> None:
        log.info(f"== {step.stage}: {outcome.status} in {outcome.seconds:.1f} s {outcome.reason}")


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
