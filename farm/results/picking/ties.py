"""The fastest cell, those that cannot be told apart from it, and the choice among them."""

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

_SAME_COST = 0.1
"""Memory and build time that differ by no more than this share count as equal: two runs of one
engine do."""


@dataclass(frozen=True)
class Fastest:
    """The cell that is chosen among the fastest.

    ties: the others that were compared with it and cannot be told apart. chosen_by: what decided
    among them; '' without ties. compared: with how many others it was compared side by side.
    """

    best: Row
    ties: tuple[Row, ...] = ()
    chosen_by: str = ""
    compared: int = 0


def fastest(rows: Sequence[Row]) -> Fastest:
    """Return the fastest of the cells, which are of one target and model.

    Cells that were compared side by side, which have a rank, are ordered by that; else by the
    median latency. Ranks and ratios hold among the cells of one comparison.
    """
    first = min(rows, key=lambda row: (row["latency_p50_ms"], -(row["box_ap"] or 0), row["cell"]))
    if not _compared(first):
        return Fastest(first)
    compared = [row for row in rows if _compared(row) and _comparison(row) == _comparison(first)]
    leader = min(compared, key=lambda row: (row["vs_best"], row["latency_p50_ms"]))
    tied = [row for row in compared if _tie(row, leader)]
    best, reasons = _chosen(tied)
    others = tuple(row for row in tied if row is not best)
    return Fastest(best, others, ", then ".join(reasons), len(compared) - 1)


def _compared(row: Row) -> bool:
    """Whether a cell was compared side by side with the best one of its target and model."""
    names = ("rank", "vs_best", "vs_best_low", "vs_best_high")
    return all(row.get(name) is not None for name in names)


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
    low, high = leader["vs_best_low"], leader["vs_best_high"]
    return bool(row["vs_best_low"] <= high and low <= row["vs_best_high"])


@dataclass(frozen=True)
class _Preference:
    """What is chosen by. better: of two values the better one, `min` or `max`. same: how far from
    the best a value counts as equal, of that value."""

    column: str
    said: str
    better: Callable[..., Any]
    same: Callable[[float], float]


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
    return min(left, key=lambda row: (row["vs_best"], row["latency_p50_ms"], row["cell"])), reasons


def _narrowed(left: list[Row]) -> Iterator[tuple[list[Row], str]]:
    """The cells that each preference leaves, and how it is said, where it leaves fewer."""
    for one in _PREFERENCES:
        values = [row.get(one.column) for row in left]
        if None in values:
            continue
        best = one.better(values)
        kept = [row for row in left if abs(row[one.column] - best) <= one.same(best)]
        if len(kept) < len(left):
            left = kept
            yield left, f"{one.said} ({shown(COLUMNS[one.column], best)})"
    portable = [row for row in left if _portable(row)]
    if 0 < len(portable) < len(left):
        yield portable, "an ONNX file, which opens anywhere"


def _portable(row: Row) -> bool:
    """Whether what is shipped is an ONNX file, not an engine that is bound to its machine."""
    name = row["runtime"]
    return name.partition("@")[0] in RUNTIMES and runtime_of(name).portable
