"""Pick the engine to ship: which cells are eligible, which is best, and why."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.store.origins import HERE

if TYPE_CHECKING:
    from farm.results.columns import Row

OBJECTIVES = {
    "latency": ("latency_p50_ms", 1),
    "throughput": ("throughput_per_s", -1),
    "ap": ("box_ap", -1),
}
"""The column of each objective, with +1 if a smaller value is better."""

DEFAULT_MAX_AP_DROP = 0.5
"""In points of 100, as published tables state AP."""


@dataclass(frozen=True)
class Criteria:
    """The objective of a pick, and what an engine must satisfy.

    max_ap_drop: in points of 100; 0.2 is 0.002 on the 0..1 scale. postprocess: only engines whose
    graph ends there; those of `none` have no AP. devices: those of this machine; imported figures
    of these are not picked, since the cell can be run here.
    """

    objective: str = "latency"
    max_ap_drop: float = DEFAULT_MAX_AP_DROP
    max_latency_ms: float | None = None
    model: str | None = None
    postprocess: str | None = None
    devices: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pick:
    """The best cell (None if no cell is eligible), all eligible ones, and why others are not.

    left_out: the reason, by cell.
    """

    best: Row | None
    eligible: tuple[Row, ...]
    left_out: dict[str, str]
    why: str


def pick(rows: Sequence[Row], criteria: Criteria) -> Pick:
    """Pick the best cell. Equal ones are ordered by AP, then latency, then name.

    An imported cell is eligible only if no cell of its target was run here or can be.
    """
    ran = {row["target"] for row in rows if row["origin"] == HERE and row["status"] != "pending"}
    reasons = [_excluded(row, criteria) or _imported(row, ran, criteria.devices) for row in rows]
    checked = list(zip(rows, reasons, strict=True))
    several = len({row["sweep"] for row in rows}) > 1
    left_out = {
        f"{row['sweep']}: {row['cell']}" if several else row["cell"]: reason
        for row, reason in checked
        if reason
    }
    eligible = [row for row, reason in checked if not reason]
    column, sign = OBJECTIVES[criteria.objective]
    ranked = sorted(
        eligible,
        key=lambda row: (
            sign * row[column],
            -(row["box_ap"] or 0),
            row["latency_p50_ms"],
            row["cell"],
        ),
    )
    if not ranked:
        return Pick(None, (), left_out, f"none of {len(rows)} cells may be shipped")
    return Pick(ranked[0], tuple(ranked), left_out, _why(ranked, len(rows), criteria))


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Return the cells that no other beats in both box AP and median latency, fastest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["latency_p50_ms"], -(row["box_ap"] or 0))):
        if not front or (row["box_ap"] or 0) > (front[-1]["box_ap"] or 0):
            front.append(row)
    return front


def _excluded(row: Row, criteria: Criteria) -> str | None:
    """Why a cell does not satisfy the criteria; None if it does."""
    if criteria.model is not None and row["model"] != criteria.model:
        return f"another model than {criteria.model}"
    if criteria.postprocess not in (None, row["postprocess"]):
        return f"its postprocess is {row['postprocess']}, not {criteria.postprocess}"
    if row["status"] != "ok":
        return f"{row['status']}: {row['reason']}"
    if row["latency_p50_ms"] is None:
        return "not measured"
    for kind in ("box", "mask"):
        drop = row[f"{kind}_ap_drop"]
        if drop is not None and drop * 100 > criteria.max_ap_drop + 1e-9:
            return f"loses {drop * 100:.2f} points of {kind} AP, at most {criteria.max_ap_drop:g}"
    if row["box_ap"] is None and (criteria.postprocess != "none" or criteria.objective == "ap"):
        raw = row["postprocess"] == "none"
        return (
            "raw outputs have no AP; --postprocess none selects them"
            if raw
            else "its AP is unknown"
        )
    if criteria.max_latency_ms is not None and row["latency_p50_ms"] > criteria.max_latency_ms:
        return f"takes {row['latency_p50_ms']:.2f} ms, at most {criteria.max_latency_ms:g}"
    return None


def _imported(row: Row, ran: Set[str], devices: Set[str]) -> str | None:
    """Why an imported cell is not eligible; None if it is."""
    if row["origin"] == HERE or (row["target"] not in ran and row["device"] not in devices):
        return None
    why = "cells of its target ran here" if row["target"] in ran else "this machine is its device"
    return f"imported ({row['origin']}), and {why}: run the cell"


def _why(ranked: Sequence[Row], total: int, criteria: Criteria) -> str:
    best = ranked[0]
    reasons = {
        "latency": f"lowest median latency ({best['latency_p50_ms']:.2f} ms)",
        "throughput": f"highest throughput ({best['throughput_per_s']:.1f} images/s)",
        "ap": f"highest box AP ({best['box_ap'] or 0:.4f})",
    }
    imported = " imported" if best["origin"] != HERE else ""
    why = f"{reasons[criteria.objective]} of {len(ranked)} eligible{imported} cells (of {total})"
    if len(ranked) > 1 and criteria.objective != "ap":
        column, _ = OBJECTIVES[criteria.objective]
        gap = abs(ranked[1][column] - best[column]) / best[column]
        noise = max(best["latency_cov"] or 0, ranked[1]["latency_cov"] or 0)
        noise /= min(best["samples"] or 1, ranked[1]["samples"] or 1) ** 0.5
        why += f"; next is {ranked[1]['cell']}, {gap:.1%} behind"
        if gap < 2 * noise:
            why += " (within the noise: either is as good)"
    return why
