"""The Pareto front of AP against latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from farm.results.picking.ties import SAME_AP

if TYPE_CHECKING:
    from farm.results.columns import Row


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Return the cells that no other beats in both box AP and median latency, fastest first.

    A slower cell is on the front if its AP is higher by over 0.1 points of 100: less is within
    what engines of one model differ by.
    """
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["latency_p50_ms"], -(row["box_ap"] or 0))):
        if not front or (row["box_ap"] or 0) > (front[-1]["box_ap"] or 0) + SAME_AP:
            front.append(row)
    return front


def with_trade_offs(front: Sequence[Row]) -> list[Row]:
    """Return the rows of a front with what each costs and gains beside the first, the fastest.

    `x_time`: its latency over the first's. `points`: its box AP minus the first's, in points of
    100; None where one has none.
    """
    first = front[0]
    return [
        {
            **row,
            "x_time": row["latency_p50_ms"] / first["latency_p50_ms"],
            "points": _points(row["box_ap"], first["box_ap"]),
        }
        for row in front
    ]


def _points(own: float | None, other: float | None) -> float | None:
    return None if own is None or other is None else (own - other) * 100
