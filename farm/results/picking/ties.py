"""The fastest cell, those that cannot be told apart from it, and the choice among them; the Pareto
front of AP against latency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.catalog import RUNTIMES, runtime_of
from farm.results.columns import COLUMNS
from farm.results.conditions import shown

if TYPE_CHECKING:
    from farm.results.columns import Row

SAME_AP = 0.001
"""AP that differs by no more than 0.1 points counts as equal, as in `farm diff`."""

_SAME_TIME = 0.05
"""A time that is measured as longer by no more than this share counts as equal among cells that
cannot be told apart; a short comparison may leave much larger differences unproven."""

_WIDE = 1.1
"""An interval whose ends are further apart may be narrowed by a longer comparison."""

_SAME_COST = 0.1
"""Memory and build time that differ by no more than this share count as equal: two runs of one
engine do."""


@dataclass(frozen=True)
class Fastest:
    """The cell that is chosen among the fastest.

    ties: the others that were compared with it and cannot be told apart. chosen_by: what decided
    among them; '' without ties. compared: with how many others it was compared side by side.
    wide: whether a longer comparison may tell the ties apart.
    """

    best: Row
    ties: tuple[Row, ...] = ()
    chosen_by: str = ""
    compared: int = 0
    wide: bool = False


def fastest(rows: Sequence[Row]) -> Fastest:
    """Return the fastest of the cells, which are of one target and model.

    Cells that were compared side by side, which have a rank, are ordered by that; else by the
    median latency. Ranks and ratios hold among the cells of one comparison.
    """
    first = min(rows, key=lambda row: (row["latency_p50_ms"], -(row["box_ap"] or 0), row["cell"]))
    if first.get("rank") is None:
        return Fastest(first)
    compared = [
        row
        for row in rows
        if row.get("rank") is not None and _comparison(row) == _comparison(first)
    ]
    leader = min(compared, key=_speed)
    tied = [row for row in compared if _tie(row, leader)]
    best, reasons = _chosen(tied)
    others = tuple(row for row in tied if row is not best)
    return Fastest(best, others, ", then ".join(reasons), len(compared) - 1, any(map(_wide, tied)))


def _speed(row: Row) -> tuple[float, float, str]:
    """What cells of one comparison are ordered by: their time over that of its best cell."""
    ratio = row.get("vs_best")
    return (float("inf") if ratio is None else ratio, row["latency_p50_ms"], row["cell"])


def _comparison(row: Row) -> tuple[str, str | None]:
    """What tells comparisons apart: one of each model, target and environment."""
    return row["sweep"], row.get("compare_key")


def _tie(row: Row, leader: Row) -> bool:
    """Whether two cells cannot be told apart, by what is known of each beside the best one.

    A rank is one more than the number of cells shown to be faster, so that those of one rank tie.
    Of others the intervals tell, which overlap more often than a comparison of the two would say.
    """
    if row["rank"] == leader["rank"]:
        return True
    ends = [one.get(f"vs_best_{end}") for one in (row, leader) for end in ("low", "high")]
    if None in ends:  # too few rounds for an interval: ranks are all that is known
        return False
    # The leader's ratio is the least, so its interval begins before the other one ends.
    return bool(row["vs_best_low"] <= leader["vs_best_high"])


def _wide(row: Row) -> bool:
    low, high = row.get("vs_best_low"), row.get("vs_best_high")
    return low is None or high is None or high > low * _WIDE


@dataclass(frozen=True)
class _Preference:
    """What is chosen by. better: of two values the better one, `min` or `max`. same: how far from
    the best a value counts as equal, of that value."""

    column: str
    said: str
    better: Callable[..., Any]
    same: Callable[[float], float]


_RATIO, _TIME = (
    _Preference(
        column, "the shorter time, which is not proven", min, lambda best: best * _SAME_TIME
    )
    for column in ("vs_best", "latency_p50_ms")
)

_PREFERENCES = (
    *(_Preference(f"{kind}_ap", f"higher {kind} AP", max, lambda _: SAME_AP)
      for kind in ("box", "mask")),
    _Preference("peak_host_bytes", "less memory", min, lambda best: best * _SAME_COST),
    _Preference("build_s", "a faster build", min, lambda best: best * _SAME_COST),
)  # fmt: skip


def _chosen(tied: Sequence[Row]) -> tuple[Row, list[str]]:
    """The cell to take of those that tie, and what has decided, each by its preference in turn."""
    left, reasons = list(tied), list[str]()
    for kept, said in _narrowed(left):
        left, reasons = kept, [*reasons, said]
    if len(left) > 1 and not reasons:
        reasons = ["name, since nothing else sets them apart"]
    return min(left, key=_speed), reasons


def _narrowed(left: list[Row]) -> Iterator[tuple[list[Row], str]]:
    """The cells that each preference leaves, and how it is said, where it leaves fewer."""
    # A cell may have run in no round with the best one; then the medians are all that is known.
    time = _TIME if any(row.get("vs_best") is None for row in left) else _RATIO
    for one in (time, *_PREFERENCES):
        values = [row.get(one.column) for row in left]
        if None in values:
            continue
        best = one.better(values)
        kept = [row for row in left if abs(row[one.column] - best) <= one.same(best)]
        if len(kept) < len(left):
            left = kept
            value = f" ({shown(COLUMNS[one.column], best)})"
            yield left, one.said + ("" if one is time else value)
    portable = [row for row in left if _portable(row)]
    if 0 < len(portable) < len(left):
        yield portable, "an ONNX file, which opens anywhere"


def _portable(row: Row) -> bool:
    """Whether what is shipped is an ONNX file, not an engine that is bound to its machine."""
    name = row["runtime"]
    return name.partition("@")[0] in RUNTIMES and runtime_of(name).portable


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
