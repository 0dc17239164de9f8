"""Run one cell again: all its steps in this process, in a store of their own, with full logs."""

from __future__ import annotations

import logging
import tempfile
import textwrap
from typing import TYPE_CHECKING

from farm.cli.recorded import recorded
from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Outcome, run_steps
from farm.engine.status import failure_reasons, skip_reasons
from farm.plan.steps import Plan, Step
from farm.results.names import outer
from farm.results.rows import make_rows
from farm.store import Store
from farm.terminal.tables import table

if TYPE_CHECKING:
    from farm.cli.recorded import Recorded
    from farm.cli.results import Results
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
_TIMED = ("latency_p50_ms",)

_DRIFT = 1.5
"""So many times as long as another does a measurement take on a machine that is shared; see
`results.candidates.CLEARLY_SLOWER`."""


def reproduce(cell: str, results: Results, sweep: str | None) -> int:
    """Run the cell again and print the recorded figures beside the new ones.

    sweep: needed where several sweeps have a cell of that name. Returns the exit code: 0 if the
    cell ends with the recorded status, else 1.

    Raises:
        InputError: the cell or its matrix is not kept here, or files of the user are wrong.
    """
    found = recorded(cell, results, sweep)
    with tempfile.TemporaryDirectory(prefix="farm-reproduce-") as folder:
        again = _again(found, Store(folder))
    figures = [
        (
            outer(name),
            _text(found.row[name]),
            _text(again[name]),
            difference(found.row[name], again[name]),
        )
        for name in _COMPARED
    ]
    headings = ("figure", "recorded", "again", "difference")
    print(table(headings, figures, (False, True, True, True)))
    if again["reason"]:
        at = f" at {again['failed_stage']}" if again["failed_stage"] else ""
        print(f"{again['status']}{at}: {again['reason']}")
    print(conclusion(found.row, again))
    return 0 if again["status"] == found.row["status"] else 1


def difference(recorded: object, again: object) -> str:
    """Say how far the second figure is from the first."""
    if recorded == again:
        return "none"
    if not isinstance(recorded, float) or not isinstance(again, float):
        return "another"
    share = f" ({again / recorded - 1:+.1%})" if recorded else ""
    return f"{again - recorded:+.2g}{share}"


def conclusion(recorded: Row, again: Row) -> str:
    """Say in a few lines whether the cell was reproduced, and what its latency tells."""
    exact = [name for name in _COMPARED if name not in _TIMED]
    other = [outer(name) for name in exact if recorded[name] != again[name]]
    found = f"Differs in {', '.join(other)}." if other else "All but the latency is the same."
    before, now = recorded["latency_p50_ms"], again["latency_p50_ms"]
    if before is None or now is None:
        return found
    ratio = max(before, now) / min(before, now)
    speed = (
        f"The latencies differ by {ratio - 1:.0%}, as two measurements at different times may: to"
        if ratio <= _DRIFT
        else f"The latencies differ by {ratio - 1:.0%}, more than load alone mostly explains. To"
    )
    return textwrap.fill(
        f"{found} {speed} measure again in the sweep: farm run MATRIX --again measure --only "
        f"{recorded['cell']}",
        78,
        break_on_hyphens=False,
    )


def _again(found: Recorded, store: Store) -> Row:
    steps = found.plan.with_ancestors(found.planned.steps.values())
    limits = found.limits
    outcomes = run_steps(steps, store, lambda: LocalExecutor(store, limits, echo=True), _Lines())
    only = Plan(found.plan.name, (found.planned,), found.plan.steps, (), ())
    failed, skipped = failure_reasons(outcomes.values()), skip_reasons(outcomes.values())
    return make_rows(only, store, found.matrix.spec.verify, failed, skipped)[0]


class _Lines:
    """A watcher of `run_steps` that logs each step."""

    def started(self, step: Step) -> None:
        log.info(f"== {step.stage} {step.label}")

    def ended(self, step: Step, outcome: Outcome) -> None:
        log.info(f"== {step.stage}: {outcome.status} in {outcome.seconds:.1f} s {outcome.reason}")


def _text(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
