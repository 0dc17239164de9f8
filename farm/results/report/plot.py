"""The plot of AP against latency: as a Vega-Lite specification, and as an image.

vl-convert draws it, without a browser or a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import sqrt
from typing import TYPE_CHECKING, Any

from farm.errors import InputError
from farm.results.report.points import Spec, axes_of, front_of, is_wide, points
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.results.columns import Row

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_COLOURS = ["#3987e5", "#e8842c", "#2f9e62", "#d6455d", "#8a63d2", "#a8761f", "#1e9fb0", "#c45ba8"]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke"]


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


_SIDES = {"left": {"dx": 7, "dy": -5}, "right": {"dx": -7, "dy": -10}}


def _labels(side: str, x: Spec, y: Spec, suffix: str) -> Spec:
    """The labels of the front, above their marks: of its left half to the right, of its right half
    to the left and higher, so that neighbours do not cover each other."""
    mark = {"type": "text", "align": side, "fontSize": 11, "limit": 260, "baseline": "bottom"}
    return {
        "data": {"name": f"front{suffix}"},
        "transform": [{"filter": f"datum.side === '{side}'"}],
        "mark": {**mark, **_SIDES[side]},
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


FORMATS = ("png", "svg")

_SCALE = 2.0
"""Pixels of a PNG for each unit of the plot, so that it is sharp on any screen."""

MISSING = (
    "the package vl-convert-python, which draws the plots, is not installed; "
    "`pip install 'farm[report]'` (in a checkout: `pip install '.[report]' -c constraints.txt`)"
)


@cache
def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script for a page: 0.9 MB.

    Raises:
        InputError: vl-convert is not installed.
    """
    bundle: str = _vl_convert().javascript_bundle()
    return bundle


def drawn(spec: Spec, form: str) -> bytes:
    """Return a plot as an image in one of `FORMATS`.

    Raises:
        InputError: vl-convert is not installed.
    """
    convert = _vl_convert()
    if form == "svg":
        text: str = convert.vegalite_to_svg(spec)
        return text.encode()
    image: bytes = convert.vegalite_to_png(spec, scale=_SCALE)
    return image


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise InputError(MISSING) from None
    return vl_convert
