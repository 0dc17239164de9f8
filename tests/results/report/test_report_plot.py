"""The plot of the report: its points, intervals, front and scale."""

from __future__ import annotations

import pytest
from report_cases import many
from rows import row

from farm.results.picking.ties import pareto
from farm.results.report import plot, points


def test_a_point_has_the_intervals_of_its_ap_and_its_latency() -> None:
    own = row(
        "a", box_ap=0.48, box_ap_reference=0.5, box_ap_drop_low=0.01, box_ap_drop_high=0.05,
        latency_p50_ms=12.0, vs_best=1.2, vs_best_low=1.1, vs_best_high=1.3,
    )  # fmt: skip
    (point,) = points.points([own])
    assert (point["id"], point["ap"], point["ms"]) == (0, 0.48, 12.0)
    assert (point["ap_low"], point["ap_high"]) == pytest.approx((0.45, 0.49))
    assert (point["ms_low"], point["ms_high"]) == pytest.approx((11.0, 13.0))
    assert point["ap_text"] == "0.4800 (95 %: 0.4500 to 0.4900)"
    (bare,) = points.points([row("a")])
    assert (bare["ap_low"], bare["ms_high"], bare["ms_text"]) == (None, None, "10.00")


def test_an_interval_ends_at_the_least_and_the_largest_ap_and_has_two_ends() -> None:
    own = {"box_ap": 0.5, "box_ap_reference": 0.5, "box_ap_drop_low": -0.6, "box_ap_drop_high": 0.6}
    own |= {"vs_best": 1.2, "vs_best_low": 1.1, "vs_best_high": 1.3}
    (point,) = points.points([row("a", **own)])
    assert (point["ap_low"], point["ap_high"]) == (0.0, 1.0)
    for name in set(own) - {"box_ap"}:
        (point,) = points.points([row("a", **{**own, name: None})])
        quantity = "ap" if "ap" in name else "ms"
        assert point[f"{quantity}_low"] is point[f"{quantity}_high"] is None
        assert "95 %" not in point[f"{quantity}_text"]


def test_only_cells_with_an_ap_and_a_latency_are_plotted_by_their_row() -> None:
    rows = [
        row("failed", status="failed"),
        row("raw", box_ap=None),
        row("unmeasured", latency_p50_ms=None),
        row("good", mask_ap=0.4),
    ]
    assert [one["id"] for one in points.points(rows)] == [3]
    assert [one["ap"] for one in points.points(rows, "mask")] == [0.4]


def test_cells_are_told_apart_by_the_axes_in_which_they_differ() -> None:
    rows = [row("a", runtime="openvino", opset=11), row("b", runtime="torch", opset=17)]
    assert points.axes_of(rows) == ["runtime", "opset"]
    assert [one["label"] for one in points.points(rows)] == ["openvino 11", "torch 17"]
    assert points.axes_of(rows[:1]) == ["model"]


def test_the_front_is_that_of_farm_best() -> None:
    rows = many(200)
    usable = [one for one in rows if points.shown(one)]
    cells = [rows[index]["cell"] for index in points.front_of(rows)]
    assert cells == [one["cell"] for one in pareto(usable)] and 1 < len(cells) < 30


@pytest.mark.parametrize(("latencies", "wide"), [((1.0, 8.0), False), ((1.0, 8.1), True)])
def test_latencies_that_are_far_apart_are_on_a_logarithmic_scale(
    latencies: tuple[float, ...], wide: bool
) -> None:
    rows = [row(str(one), latency_p50_ms=one) for one in latencies]
    spec = plot.static({"cpu": rows})
    scales = [layer["encoding"]["x"]["scale"] for layer in spec["layer"]]
    assert {one["type"] for one in scales} == {"log" if wide else "linear"}
    assert {one.get("zero") for one in scales} == {None if wide else False}
    assert {one["nice"] for one in scales} == {False}  # no empty room beside the points
    assert {layer["encoding"]["y"]["scale"]["zero"] for layer in spec["layer"]} == {False}


def test_the_pages_plot_lets_marks_be_chosen_and_dims_the_others() -> None:
    spec = plot.interactive(["model", "runtime"])
    marks = spec["layer"][-1]
    assert marks["mark"]["type"] == "point" and marks["encoding"]["x"]["scale"]["type"] == "linear"
    assert [one["name"] for one in marks["params"]] == ["brush", "hover", "legend"]
    assert marks["params"][-1]["select"]["fields"] == ["model"]
    dimmed, larger = marks["encoding"]["opacity"], marks["encoding"]["size"]
    assert 0 < dimmed["value"] < 0.5 < dimmed["condition"]["value"] < 1
    assert larger["value"] == marks["mark"]["size"] < larger["condition"]["value"] == 190
    assert larger["condition"]["empty"] is False  # nothing is under the pointer at first
    assert not any("params" in layer for layer in spec["layer"][:-1])


def test_the_front_alone_is_joined_and_named_under_the_name_of_the_device() -> None:
    rows = [row("a", latency_p50_ms=1.0, box_ap=0.4), row("b", latency_p50_ms=2.0, box_ap=0.3)]
    spec = plot.static({"cpu": rows})
    assert [one["cell"] for one in spec["layer"][0]["data"]["values"]] == ["a"]
    assert [one["cell"] for one in spec["data"]["values"]] == ["a", "b"]
    assert spec["title"] == {"text": "cpu", "subtitle": "a cpu"}
    assert plot.static({"cpu": [row("a", device=None)]})["title"]["subtitle"] == ""


@pytest.mark.parametrize(
    ("latencies", "sides"),
    [((1.0,), ["left"]), ((1.0, 4.0, 4.1, 16.0), ["left", "left", "right", "right"])],
)
def test_labels_of_the_slower_half_of_the_front_are_on_the_other_side(
    latencies: tuple[float, ...], sides: list[str]
) -> None:
    rows = [row(str(one), latency_p50_ms=one, box_ap=one / 20) for one in latencies]
    spec = plot.static({"cpu": rows})
    front = spec["layer"][0]["data"]["values"]
    assert [one["side"] for one in sorted(front, key=lambda one: one["ms"])] == sides
    labels = [one["mark"] for one in spec["layer"] if one["mark"]["type"] == "text"]
    assert [(one["align"], one["dx"] > 0) for one in labels] == [("left", True), ("right", False)]
    assert spec["layer"][-1]["mark"]["filled"] is True


def test_several_targets_are_plotted_below_one_another_under_their_names() -> None:
    spec = plot.static({"cpu": [row("a")], "gpu \x1b[1m": [row("b", target="gpu")]})
    assert [one["title"]["text"] for one in spec["vconcat"]] == ["cpu", "gpu \\x1b[1m"]
    assert plot.drawn(spec, "svg").startswith(b"<svg")
    assert plot.drawn(spec, "png").startswith(b"\x89PNG")
