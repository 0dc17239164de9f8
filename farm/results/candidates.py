"""Which cells are worth comparing: those that may be the fastest at their AP."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, groupby, islice
from math import inf
from typing import TYPE_CHECKING

from farm.engine.status import CellStatus
from farm.plan.comparisons import Candidate, with_comparisons
from farm.results.again import is_unstable
from farm.results.rows import fp32_cells
from farm.store.records import HERE

if TYPE_CHECKING:
    from farm.config.measuring import CompareSpec
    from farm.plan.steps import Plan
    from farm.results.columns import Row

CLEARLY_SLOWER = 1.5
"""A cell is left out if its fastest run took so many times as long as the median run of another.

One measurement may be off by a third and more, where other work ran beside it.
"""

DISTURBED_SLOWER = 4.0
"""The same of a cell whose measurement was disturbed: it may be faster than its figures say."""

MOST = 64
"""So many cells of a model are compared at most, the fastest: each is compared with each."""

AP_RESOLUTION = 0.0005
"""A cell's AP counts as higher than another's from this difference on: 0.05 points."""


def compared(plan: Plan, rows: Sequence[Row], how: CompareSpec | None) -> Plan:
    """Return the plan with the comparisons that its measured cells call for; see `Candidate`.

    rows: those of the plan's cells, in their order. how: None for no comparison.
    """
    if how is None:
        return plan
    cells = {row["cell"]: cell for row, cell in zip(rows, plan.cells, strict=True)}
    fp32 = fp32_cells(rows)

    def candidate(row: Row) -> Candidate:
        other = fp32.get(row["cell"])
        return Candidate(cells[row["cell"]], cells[other] if other else None)

    groups = ([candidate(row) for row in group] for group in _groups(rows, fp32))
    return with_comparisons(plan, groups, how)


def _groups(rows: Sequence[Row], fp32: Mapping[str, str]) -> Iterator[list[Row]]:
    """The candidates of each model and target, the fastest first."""

    def group(row: Row) -> tuple[str, str, bool]:
        return row["model"], row["target"], row["postprocess"] == "none"

    for _, own in groupby(sorted(filter(_is_measured, rows), key=group), group):
        alike = sorted(own, key=lambda row: row["latency_p50_ms"])
        names = {row["cell"] for row in fastest(alike)}
        names |= {fp32[name] for name in names if name in fp32}
        yield [row for row in alike if row["cell"] in names]


def _is_measured(row: Row) -> bool:
    done = row["status"] == CellStatus.OK and row["origin"] == HERE and not row.get("stopped_early")
    return done and row["latency_p50_ms"] is not None


def fastest(rows: Sequence[Row]) -> list[Row]:
    """Return those of one model's cells that may be the fastest at their AP, at most `MOST`."""
    alike = sorted(rows, key=lambda row: row["latency_p50_ms"])
    return [*islice(_not_beaten(alike), MOST)]


def _not_beaten(alike: Sequence[Row]) -> Iterator[Row]:
    """Those cells of which none of the same AP or more is clearly faster; `alike`: the fastest
    first."""
    medians = [row["latency_p50_ms"] for row in alike]
    highest = [*accumulate(map(_ap, alike), max, initial=-inf)]  # of the first 0, 1, 2, ...
    for row in alike:
        factor = DISTURBED_SLOWER if is_unstable(row) else CLEARLY_SLOWER
        clearly_faster = bisect_left(medians, row["latency_min_ms"] / factor)
        if highest[clearly_faster] <= _ap(row) - AP_RESOLUTION:
            yield row


def _ap(row: Row) -> float:
    """A cell whose AP is not known is compared as the least accurate."""
    return row["box_ap"] or 0.0
