"""Pick the engine to ship of each target and model: the best that meets the criteria, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.results.picking.criteria import DropLimit
from farm.results.picking.obstacles import Obstacle, obstacles
from farm.results.picking.ties import SAME_AP, Fastest, fastest
from farm.store.records import HERE

if TYPE_CHECKING:
    from farm.results.columns import Row
    from farm.results.picking.criteria import Criteria


@dataclass(frozen=True)
class Pick:
    """The best cell (None if no cell is eligible), all eligible ones, and why others are not.

    left_out: the reason, by cell. ties: the cells that cannot be told apart from the best one in
    speed. obstacles: where no cell is eligible, the constraints that are in the way. doubt: why
    the images do not show that the best cell keeps to the bound of the AP drop; '' if they do.
    """

    best: Row | None
    eligible: tuple[Row, ...]
    left_out: dict[str, str]
    why: str
    ties: tuple[Row, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    doubt: str = ""


def picks(rows: Sequence[Row], criteria: Criteria) -> dict[tuple[str, str], Pick]:
    """Pick the best cell of each target and model; see `pick`. Both are in alphabetical order."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["target"], row["model"]), []).append(row)
    ran = _ran_here(rows)
    return {group: _pick(own, criteria, ran) for group, own in sorted(groups.items())}


def pick(rows: Sequence[Row], criteria: Criteria) -> Pick:
    """Pick the best of the cells by the objective.

    Of cells that cannot be told apart in speed the choice is by AP, memory, build time and the
    portable file; see `farm.results.picking.ties`. An imported cell is eligible only if no cell of
    its target was run here or can be.
    """
    return _pick(rows, criteria, _ran_here(rows))


def _ran_here(rows: Sequence[Row]) -> Set[str]:
    """The targets of which cells were run here."""
    run = (row for row in rows if row["origin"] == HERE and row["status"] in ("ok", "failed"))
    return {row["target"] for row in run}


def _pick(rows: Sequence[Row], criteria: Criteria, ran: Set[str]) -> Pick:
    constraints = criteria.constraints()
    usable: list[Row] = []
    eligible: list[Row] = []
    left_out = dict[str, str]()
    several = len({row["sweep"] for row in rows}) > 1
    for row in rows:
        reason = criteria.unusable(row) or _imported(row, ran, criteria.devices)
        if reason is None:
            usable.append(row)
            reason = next((one.reason(row) for one in constraints if not one.met(row)), None)
        if reason is None:
            eligible.append(row)
        else:
            left_out[f"{row['sweep']}: {row['cell']}" if several else row["cell"]] = reason
    if eligible:
        return _best(eligible, len(rows), criteria, left_out)
    why = f"none of {len(rows)} cells "
    if not usable:
        return Pick(None, (), left_out, why + "may be shipped")
    found = tuple(obstacles(usable, constraints))
    return Pick(None, (), left_out, why + "meets the criteria", obstacles=found)


def _imported(row: Row, ran: Set[str], devices: Set[str]) -> str | None:
    """Why an imported cell is not eligible; None if it is."""
    if row["origin"] == HERE or (row["target"] not in ran and row["device"] not in devices):
        return None
    why = "cells of its target ran here" if row["target"] in ran else "this machine is its device"
    return f"imported ({row['origin']}), and {why}: run the cell"


def _best(
    eligible: Sequence[Row], total: int, criteria: Criteria, left_out: Mapping[str, str]
) -> Pick:
    """The best of the eligible cells, which come in the order of the objective."""
    objective = criteria.objective
    ordered = sorted(eligible, key=lambda row: _order(row, objective))
    candidates = [row for row in ordered if _as_good(row, ordered[0], objective)]
    found = fastest(candidates)
    imported = " imported" if found.best["origin"] != HERE else ""
    among = f" of {len(eligible)} eligible{imported} cells (of {total})"
    if len(eligible) == 1:
        among = f", the only eligible{imported} cell (of {total})"
    first = [found.best, *(row for row in ordered if row is not found.best)]
    why = _why(found, first, among, objective, candidates)
    doubt = DropLimit(criteria.max_ap_drop, confident=True).doubt(found.best)
    return Pick(found.best, tuple(first), dict(left_out), why, found.ties, doubt=doubt)


def _as_good(row: Row, first: Row, objective: str) -> bool:
    """Whether a cell may be taken in place of the first by the objective, if it is faster."""
    if objective == "throughput":
        return bool(row["throughput_per_s"] == first["throughput_per_s"])
    return objective == "latency" or row["box_ap"] >= first["box_ap"] - SAME_AP


def _order(row: Row, objective: str) -> tuple[float, float, float, str]:
    """What eligible cells are ordered by: the objective, then AP, latency and name."""
    ap = row["box_ap"] or 0
    main = {
        "latency": row["latency_p50_ms"],
        "throughput": -row["throughput_per_s"],
        "ap": -ap,
    }[objective]
    return (main, -ap, row["latency_p50_ms"], row["cell"])


def _why(
    found: Fastest, first: Sequence[Row], among: str, objective: str, candidates: Sequence[Row]
) -> str:
    """first: all eligible cells in order, the picked one first."""
    best = found.best
    if objective == "throughput":
        why = f"highest throughput ({best['throughput_per_s']:.1f} images/s){among}"
        if len(first) > 1:
            why += f"; next is {first[1]['cell']} with {first[1]['throughput_per_s']:.1f}"
        return why
    if objective == "ap":
        highest = max(row["box_ap"] for row in candidates)
        if len(candidates) == 1:
            return f"highest box AP ({highest:.4f}){among}"
        return (
            f"the fastest of {len(candidates)} cells within {SAME_AP * 100:g} points of the highest"
            f" box AP ({highest:.4f}){among}{_tied(found)}"
        )
    if not found.compared:
        why = f"lowest median latency ({best['latency_p50_ms']:.2f} ms){among}"
        return why + (_next(first[1]) if len(first) > 1 else "")
    others = len(candidates) - found.compared - 1
    apart = f"; {others} more were not compared with it" if others else ""
    if found.ties:
        return f"one of the fastest{among}{_tied(found)}{apart}"
    return (
        f"fastest ({best['latency_p50_ms']:.2f} ms){among}; it ranks before the"
        f" {_others(found.compared)} compared with it side by side{apart}"
    )


def _tied(found: Fastest) -> str:
    """What is said of the cells that tie with the best."""
    if not found.ties:
        return ""
    names = [row["cell"] for row in found.ties]
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    others = ", ".join([*names[:_MOST_NAMED], *more])
    return (
        f"; compared side by side it cannot be told apart from {others}; chosen among them by"
        f" {found.chosen_by}{_LONGER if found.wide else ''}"
    )


_MOST_NAMED = 4
"""Of the cells that tie in the text; the others are in the JSON and share its rank in the table."""

_LONGER = " (a longer `farm compare` may tell them apart)"


def _others(count: int) -> str:
    return f"{count} others" if count > 1 else "other"


def _next(other: Row) -> str:
    """What is said of the cell that comes next, where none was compared."""
    return (
        f"; next is {other['cell']} with {other['latency_p50_ms']:.2f} ms. They were not compared"
        " side by side, so which of them is faster is not proven (`farm compare` tells)"
    )
