"""Pick the engine to ship: which cells may be shipped, which is best, and why."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from farm.results.columns import Row
from farm.store.imports import HERE

OBJECTIVES = {
    "latency": ("latency_p50_ms", 1),
    "throughput": ("throughput_per_s", -1),
    "ap": ("box_ap", -1),
}
"""Objective -> the column, and +1 if less of it is better."""

DEFAULT_MAX_AP_DROP = 0.5
"""In AP points of 100, as the published tables count."""


@dataclass(frozen=True)
class Criteria:
    """What an engine must keep to. AP drops are in points: 0.2 is 0.002 on the 0..1 scale.

    postprocess: only engines whose graph ends there; `none` asks for ones that have no AP.
    devices: of this machine, whose engines are built here and not taken from an import's word.
    """

    objective: str = "latency"
    max_ap_drop: float = DEFAULT_MAX_AP_DROP
    max_latency_ms: float | None = None
    model: str | None = None
    postprocess: str | None = None
    devices: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pick:
    """best: None if no cell may be shipped. left_out: cell -> why it may not."""

    best: Row | None
    eligible: tuple[Row, ...]
    left_out: dict[str, str]
    why: str


def pick(rows: Sequence[Row], wish: Criteria) -> Pick:
    """The best cell of `rows`; equal ones are told apart by AP, then latency, then name.

    An imported one counts only where nothing of its target was run here, and nothing can be.
    """
    ran = {row["target"] for row in rows if row["origin"] == HERE and row["status"] != "pending"}
    reasons = [_unfit(row, wish) or _elsewhere(row, ran, wish.devices) for row in rows]
    judged = list(zip(rows, reasons, strict=True))
    several = len({row["sweep"] for row in rows}) > 1
    left_out = {
        f"{row['sweep']}: {row['cell']}" if several else row["cell"]: reason
        for row, reason in judged
        if reason
    }
    eligible = [row for row, reason in judged if not reason]
    column, sign = OBJECTIVES[wish.objective]
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
    return Pick(ranked[0], tuple(ranked), left_out, _why(ranked, len(rows), wish))


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Cells that no other one beats in both box AP and median latency, fastest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["latency_p50_ms"], -(row["box_ap"] or 0))):
        if not front or (row["box_ap"] or 0) > (front[-1]["box_ap"] or 0):
            front.append(row)
    return front


def _unfit(row: Row, wish: Criteria) -> str | None:
    if wish.model is not None and row["model"] != wish.model:
        return f"another model than {wish.model}"
    if wish.postprocess not in (None, row["postprocess"]):
        return f"its postprocess is {row['postprocess']}, not {wish.postprocess}"
    if row["status"] != "ok":
        return f"{row['status']}: {row['reason']}"
    if row["latency_p50_ms"] is None:
        return "not measured"
    for kind in ("box", "mask"):
        drop = row[f"{kind}_ap_drop"]
        if drop is not None and drop * 100 > wish.max_ap_drop + 1e-9:
            return f"loses {drop * 100:.2f} points of {kind} AP, at most {wish.max_ap_drop:g}"
    if row["box_ap"] is None and (wish.postprocess != "none" or wish.objective == "ap"):
        raw = row["postprocess"] == "none"
        return "raw outputs have no AP; ask for them by postprocess" if raw else "its AP is unknown"
    if wish.max_latency_ms is not None and row["latency_p50_ms"] > wish.max_latency_ms:
        return f"takes {row['latency_p50_ms']:.2f} ms, at most {wish.max_latency_ms:g}"
    return None


def _elsewhere(row: Row, ran: Set[str], devices: Set[str]) -> str | None:
    if row["origin"] == HERE or (row["target"] not in ran and row["device"] not in devices):
        return None
    why = "cells of its target ran here" if row["target"] in ran else "this machine is its device"
    return f"imported ({row['origin']}), and {why}: run the cell"


def _why(ranked: Sequence[Row], total: int, wish: Criteria) -> str:
    best = ranked[0]
    words = {
        "latency": f"lowest median latency ({best['latency_p50_ms']:.2f} ms)",
        "throughput": f"highest throughput ({best['throughput_per_s']:.1f} images/s)",
        "ap": f"highest box AP ({best['box_ap'] or 0:.4f})",
    }
    imported = " imported" if best["origin"] != HERE else ""
    why = f"{words[wish.objective]} of {len(ranked)} fitting{imported} cells (of {total})"
    if len(ranked) > 1 and wish.objective != "ap":
        column, _ = OBJECTIVES[wish.objective]
        gap = abs(ranked[1][column] - best[column]) / best[column]
        noise = max(best["latency_cov"] or 0, ranked[1]["latency_cov"] or 0)
        noise /= min(best["samples"] or 1, ranked[1]["samples"] or 1) ** 0.5
        why += f"; next is {ranked[1]['cell']}, {gap:.1%} behind"
        if gap < 2 * noise:
            why += " (within the noise: either will do)"
    return why
