"""What the plot of AP against latency shows of each cell, and which cells are on the front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from farm.results.picking.ties import pareto
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row


Spec = dict[str, Any]
"""An object of a Vega-Lite specification, or of its data."""

AXES = (
    "model", "runtime", "precision", "opset", "shape", "postprocess", "workspace_bytes", "sweep",
    "origin",
)  # fmt: skip
"""What cells are told apart by, in the order of importance for colours, shapes and filters."""


LOG_FROM = 8.0
"""The latency is shown on a logarithmic scale where the slowest cell takes so many times as long
as the fastest one."""


def axes_of(rows: Sequence[Row]) -> list[str]:
    """Return the axes in which the cells differ; the model where they differ in none.

    An axis that some cells do not have, as eager PyTorch has no opset, is left out if the others
    are alike.
    """
    values = {name: {row.get(name) for row in rows} - {None} for name in AXES}
    return [name for name, own in values.items() if len(own) > 1] or ["model"]


def points(rows: Sequence[Row], kind: str = "box") -> list[Spec]:
    """Return what the plot shows of each cell that has an AP of this kind and a latency.

    `id`: the index of the row. `ap_low`, `ap_high`: PyTorch's AP less the ends of the 95 % interval
    of the drop. `ms_low`, `ms_high`: the cell's latency, as far off as the 95 % interval of its
    ratio to the best cell's is. Both are None where there is no interval.
    """
    axes = axes_of(rows)
    return [_point(index, row, axes, kind) for index, row in enumerate(rows) if shown(row, kind)]


def shown(row: Row, kind: str = "box") -> bool:
    """Return whether the plot shows a cell."""
    done = row["status"] == "ok" and row["latency_p50_ms"] is not None
    return done and row.get(f"{kind}_ap") is not None


def _point(index: int, row: Row, axes: Sequence[str], kind: str) -> Spec:
    values = {name: axis_text(row.get(name)) for name in axes}
    return {
        "id": index,
        "cell": plain(row["cell"]),
        "label": " ".join(value for value in values.values() if value != "-"),
        **values,
        "ap": row[f"{kind}_ap"],
        "ms": row["latency_p50_ms"],
        **_with_interval("ap", row[f"{kind}_ap"], _ap_interval(row, kind), 4),
        **_with_interval("ms", row["latency_p50_ms"], ms_interval(row), 2),
    }


def _with_interval(
    name: str, value: float, interval: tuple[float | None, float | None], digits: int
) -> Spec:
    low, high = interval
    text = f"{value:.{digits}f}"
    if low is not None and high is not None:
        text += f" (95 %: {low:.{digits}f} to {high:.{digits}f})"
    return {f"{name}_low": low, f"{name}_high": high, f"{name}_text": text}


def axis_text(value: Any) -> str:
    """Return the value of an axis as the plot and its filters show it."""
    return "-" if value is None else plain(str(value))


def _ap_interval(row: Row, kind: str) -> tuple[float | None, float | None]:
    names = (f"{kind}_ap_reference", f"{kind}_ap_drop_low", f"{kind}_ap_drop_high")
    reference, low, high = (row.get(name) for name in names)
    if reference is None or low is None or high is None:
        return None, None
    return max(reference - high, 0.0), min(reference - low, 1.0)


def ms_interval(row: Row) -> tuple[float | None, float | None]:
    """Return the latency at the ends of the 95 % interval of the cell's comparison."""
    ratio, low, high = (row.get(name) for name in ("vs_best", "vs_best_low", "vs_best_high"))
    if not ratio or low is None or high is None:
        return None, None
    return row["latency_p50_ms"] * low / ratio, row["latency_p50_ms"] * high / ratio


def front_of(rows: Sequence[Row], kind: str = "box") -> list[int]:
    """Return the indices of the rows on the Pareto front, the fastest first."""
    usable = [
        {"id": index, "latency_p50_ms": row["latency_p50_ms"], "box_ap": row[f"{kind}_ap"]}
        for index, row in enumerate(rows)
        if shown(row, kind)
    ]
    return [one["id"] for one in pareto(usable)]


def is_wide(shown: Sequence[Spec]) -> bool:
    """Return whether the latencies ask for a logarithmic scale."""
    latencies = [one["ms"] for one in shown]
    return bool(latencies) and max(latencies) > LOG_FROM * min(latencies)
