"""The plot of AP against latency, as a Vega-Lite specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

from farm.results.picking.ties import pareto
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row

Spec = dict[str, Any]

AXES = (
    "model", "runtime", "precision", "opset", "shape", "postprocess", "workspace_bytes", "sweep",
    "origin",
)  # fmt: skip
"""What cells are told apart by, in the order of importance for colours, shapes and filters."""

LOG_FROM = 8.0
"""The latency is shown on a logarithmic scale where the slowest cell takes so many times as long
as the fastest one."""

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_COLOURS = ["#3987e5", "#e8842c", "#2f9e62", "#d6455d", "#8a63d2", "#a8761f", "#1e9fb0", "#c45ba8"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke"]


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


def interactive(axes: Sequence[str], kind: str = "box") -> Spec:
    """Return the plot of a page, without data: the page fills in `cells` and `front`."""
    spec = _plot([], [], axes, kind, log=False)
    spec |= {"width": "container", "height": 400}
    marks = spec["layer"][-1]
    marks["params"] = [
        {"name": "brush", "select": {"type": "interval"}},
        {
            "name": "hover",
            "select": {"type": "point", "on": "pointerover", "clear": "pointerout"},
        },
        {"name": "legend", "select": {"type": "point", "fields": [axes[0]]}, "bind": "legend"},
    ]
    both = {"and": [{"param": "brush"}, {"param": "legend"}]}
    marks["encoding"]["opacity"] = {"condition": {"test": both, "value": 0.95}, "value": 0.15}
    marks["encoding"]["size"] = {
        "condition": {"param": "hover", "empty": False, "value": 190},
        "value": 75,
    }
    return spec


def static(sections: Mapping[str, Sequence[Row]]) -> Spec:
    """Return the plots of several targets, one below the other, with their data.

    sections: the rows by target, which is the title.
    """
    plots = []
    for number, (target, rows) in enumerate(sections.items()):
        data = points(rows)
        on_front = set(front_of(rows))
        middle = sqrt(min(one["ms"] for one in data) * max(one["ms"] for one in data))
        front = [
            {**one, "side": "right" if one["ms"] > middle else "left"}
            for one in data
            if one["id"] in on_front
        ]
        plot = _plot(data, front, axes_of(rows), "box", is_wide(data), f"_{number}")
        title = {"text": plain(target), "subtitle": plain(rows[0].get("device") or "")}
        plots.append({**plot, "title": title, "width": 640, "height": 380})
    whole: Spec = plots[0] if len(plots) == 1 else {"vconcat": plots}
    return {"$schema": _SCHEMA, "background": "white", "padding": 16, **whole, "config": CONFIG}


CONFIG: Spec = {
    "font": "DejaVu Sans, Arial, sans-serif",
    "title": {
        "fontSize": 15, "subtitleFontSize": 12, "subtitleColor": "#59626d", "anchor": "start",
        "offset": 14,
    },
    "axis": {
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 10,
        "gridOpacity": 0.5, "domainColor": "#888", "tickColor": "#888",
    },
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "symbolSize": 90, "labelLimit": 220,
        "symbolOpacity": 1,
    },
    "view": {"stroke": None},
}  # fmt: skip


def _plot(
    data: Sequence[Spec],
    front: Sequence[Spec],
    axes: Sequence[str],
    kind: str,
    log: bool,
    suffix: str = "",
) -> Spec:
    """suffix: of the names of the data, which are of the whole picture."""
    x = {
        "field": "ms",
        "type": "quantitative",
        "title": "latency, median of one request (ms)",
        "scale": {
            "type": "log" if log else "linear",
            "nice": False,
            "padding": 24,
            **({} if log else {"zero": False}),
        },
    }
    y = {
        "field": "ap",
        "type": "quantitative",
        "title": f"{kind} AP",
        "scale": {"zero": False, "padding": 14},
        "axis": {"format": ".3~f"},
    }
    line = {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5, "opacity": 0.55}
    return {
        "$schema": _SCHEMA,
        "data": {"name": f"cells{suffix}", "values": data},
        "layer": [
            {
                "data": {"name": f"front{suffix}", "values": front},
                "mark": {**line, "color": "#888", "strokeDash": [5, 3]},
                "encoding": {"x": x, "y": y},
            },
            _interval({"x": {**x, "field": "ms_low"}, "x2": {"field": "ms_high"}, "y": y}, axes),
            _interval({"y": {**y, "field": "ap_low"}, "y2": {"field": "ap_high"}, "x": x}, axes),
            _labels("left", x, y, suffix),
            _labels("right", x, y, suffix),
            {
                "mark": {"type": "point", "filled": True, "size": 75, "opacity": 0.9},
                "encoding": {"x": x, "y": y, **_looks(axes), "tooltip": _tooltip(axes, kind)},
            },
        ],
    }


def _labels(side: str, x: Spec, y: Spec, suffix: str) -> Spec:
    """The labels of the front, above their marks: of its left half to the right, of its right half
    to the left and higher, so that neighbours do not cover each other."""
    mark = {
        "type": "text", "align": side, "fontSize": 11, "limit": 260,
        "baseline": "bottom",
        "dx": 7 if side == "left" else -7, "dy": -5 if side == "left" else -10,
    }  # fmt: skip
    return {
        "data": {"name": f"front{suffix}"},
        "transform": [{"filter": f"datum.side === '{side}'"}],
        "mark": mark,
        "encoding": {"x": x, "y": y, "text": {"field": "label"}},
    }


def _interval(where: Spec, axes: Sequence[str]) -> Spec:
    mark = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.4}
    return {"mark": mark, "encoding": {**where, "color": _looks(axes)["color"]}}


def _looks(axes: Sequence[str]) -> Spec:
    """Colours for the first axis, shapes for the second one."""
    looks: Spec = {
        "color": {"field": axes[0], "type": "nominal", "scale": {"range": _COLOURS}},
    }
    if len(axes) > 1:
        looks["shape"] = {"field": axes[1], "type": "nominal", "scale": {"range": SHAPES}}
    return looks


def _tooltip(axes: Sequence[str], kind: str) -> list[Spec]:
    shown = [("cell", "cell"), *((name, name) for name in axes)]
    shown += [("ap_text", f"{kind} AP"), ("ms_text", "p50 ms")]
    return [{"field": field, "title": title} for field, title in shown]
