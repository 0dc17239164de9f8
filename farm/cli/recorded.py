"""A cell of an earlier sweep, found again: its row, its matrix, and its steps as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.engine.checks import checked_plan
from farm.engine.local import LocalExecutor
from farm.engine.workers.limits import Limits, limits_of
from farm.errors import InputError, InputErrors, nearest
from farm.plan import make_plan

if TYPE_CHECKING:
    from farm.cli.results import Results
    from farm.config.loader import Matrix
    from farm.plan.steps import Plan, PlannedCell
    from farm.results.columns import Row
    from farm.store import Store


@dataclass(frozen=True)
class Recorded:
    """A cell with its recorded row, and the plan of its kept matrix."""

    row: Row
    matrix: Matrix
    plan: Plan
    planned: PlannedCell
    store: Store
    limits: Limits


def recorded(cell: str, results: Results, sweep: str | None) -> Recorded:
    """Return a cell of the leaderboard, planned anew from the matrix that was kept.

    sweep: needed where several sweeps have a cell of that name.

    Raises:
        InputError: the cell or its matrix is not kept here, or files of the user are wrong.
    """
    row = leaderboard_row(cell, results, sweep)
    matrix = results.kept_matrix(row["sweep"])
    matrix.require_folder()
    store = results.store()
    if missing := make_plan(matrix).missing:
        raise InputErrors(missing)
    limits = limits_of(matrix.spec.limits)
    plan = checked_plan(matrix, store, lambda: LocalExecutor(store, limits), retry_failed=False)
    planned = next((one for one in plan.cells if one.cell.id == cell), None)
    if planned is None:
        raise InputError(f"the matrix of the sweep has no cell {cell} any more", str(results))
    return Recorded(row, matrix, plan, planned, store, limits)


def leaderboard_row(cell: str, results: Results, sweep: str | None) -> Row:
    """Return the row of a cell.

    sweep: needed where several sweeps have a cell of that name.

    Raises:
        InputError: there is no such cell, or several.
    """
    rows = results.read(sweep=sweep)
    found = [row for row in rows if row["cell"] == cell]
    if not found:
        known = [row["cell"] for row in rows]
        raise InputError(f"no cell {cell!r}{nearest(cell, known)}", str(results))
    if len(found) > 1:
        names = ", ".join(row["sweep"] for row in found)
        raise InputError(f"several sweeps have this cell ({names}); give --sweep", cell)
    return found[0]
