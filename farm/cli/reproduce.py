"""Run one cell again: all its steps in this process, in a store of their own, with full logs."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from typing import TYPE_CHECKING

from farm.engine.checks import checked_plan
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Outcome, run_steps
from farm.engine.status import failure_reasons, skip_reasons
from farm.engine.workers.limits import Limits, limits_of
from farm.errors import InputError, InputErrors, nearest
from farm.plan import make_plan
from farm.plan.steps import Plan, PlannedCell, Step
from farm.results.rows import make_rows
from farm.store import Store
from farm.terminal.tables import table

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.config.loader import Matrix
    from farm.results.columns import Row

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


def reproduce(cell: str, results: Results, sweep: str | None) -> int:
    """Run the cell again and print the recorded figures beside the new ones.

    sweep: needed where several sweeps have a cell of that name. Returns the exit code: 0 if the
    cell ends with the recorded status, else 1.

    Raises:
        InputError: the cell or its matrix is not kept here, or files of the user are wrong.
    """
    recorded = _recorded(cell, results, sweep)
    matrix = results.kept_matrix(recorded["sweep"])
    store = results.store()
    if missing := make_plan(matrix).missing:
        raise InputErrors(missing)
    limits = limits_of(matrix.spec.limits)
    plan = checked_plan(matrix, store, lambda: LocalExecutor(store, limits), retry_failed=False)
    planned = next((one for one in plan.cells if one.cell.id == cell), None)
    if planned is None:
        raise InputError(f"the matrix of the sweep has no cell {cell} any more", str(results))
    with tempfile.TemporaryDirectory(prefix="farm-reproduce-") as folder:
        again = _again(matrix, plan, planned, Store(folder), limits)
    figures = [(name, _text(recorded[name]), _text(again[name])) for name in _COMPARED]
    print(table(("figure", "recorded", "again"), figures, (False, True, True)))
    if again["reason"]:
        print(f"failed at {again['failed_stage']}: {again['reason']}")
    return 0 if again["status"] == recorded["status"] else 1


def _recorded(cell: str, results: Results, sweep: str | None) -> Row:
    rows = results.read(sweep=sweep)
    found = [row for row in rows if row["cell"] == cell]
    if not found:
        known = [row["cell"] for row in rows]
        raise InputError(f"no cell {cell!r}{nearest(cell, known)}", str(results))
    if len(found) > 1:
        names = ", ".join(row["sweep"] for row in found)
        raise InputError(f"several sweeps have this cell ({names}); give --sweep", cell)
    return found[0]


def _again(matrix: Matrix, plan: Plan, planned: PlannedCell, store: Store, limits: Limits) -> Row:
    steps = _with_parents(plan, planned.steps.values())
    outcomes = run_steps(steps, store, lambda: LocalExecutor(store, limits, echo=True), _Lines())
    only = Plan(plan.name, (planned,), plan.steps, (), ())
    failed, skipped = failure_reasons(outcomes.values()), skip_reasons(outcomes.values())
    return make_rows(only, store, matrix.spec.verify, failed, skipped)[0]


def _with_parents(plan: Plan, keys: Iterable[str]) -> dict[str, Step]:
    """The steps and their ancestors; those of a shared step may be another model's check."""
    wanted, pending = set[str](), list(keys)
    while pending:
        key = pending.pop()
        if key not in wanted:
            wanted.add(key)
            pending += plan.steps[key].parents
    return {key: step for key, step in plan.steps.items() if key in wanted}


class _Lines:
    """A watcher of `run_steps` that logs each step."""

    def started(self, step: Step) -> None:
        log.info(f"== {step.stage} {step.label}")

    def ended(self, step: Step, outcome: Outcome) -> None:
        log.info(f"== {step.stage}: {outcome.status} in {outcome.seconds:.1f} s {outcome.reason}")


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
