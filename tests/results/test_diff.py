"""Pairs of cells and their verdicts; the command is in tests/cli/test_diff_command.py."""

from __future__ import annotations

from typing import Any

import pytest
from rows import row

from farm.errors import InputError
from farm.results.diff import Bounds, Pair, Verdict
from farm.results.pairing import Selection, pairs, parse
from farm.specs import Cell

Values = dict[str, Any]
NOISE = {"latency_cov": 0.01, "samples": 100}


def cell(**values: Any) -> dict[str, Any]:
    """A row with the cell's own name."""
    made = row("", **{"opset": 17, **NOISE, **values})
    axes = {name: made[name] for name in Cell.__annotations__}
    if values.get("ready"):
        axes["opset"] = None
    return made | {"cell": Cell(**axes).id}


def pair(a: Values | None, b: Values | None) -> Pair:
    rows = [None if one is None else cell(**one) for one in (a, b)]
    return Pair({}, *rows)


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ({}, {}, "same"),
        ({"status": "failed"}, {"status": "failed"}, "same"),
        ({"status": "pending"}, {"status": "pending"}, "same"),
        ({}, {"status": "failed"}, "broke"),
        ({"status": "failed"}, {}, "mended"),
        (None, {}, "appeared"),
        (None, {"status": "failed"}, "appeared"),
        ({"status": "pending"}, {}, "appeared"),
        ({}, None, "vanished"),
        ({}, {"status": "pending"}, "vanished"),
        ({"status": "pending"}, None, "same"),
        # 0.1 AP points of 100, and more.
        ({"box_ap": 0.5}, {"box_ap": 0.501}, "same"),
        ({"box_ap": 0.5}, {"box_ap": 0.499}, "same"),
        ({"box_ap": 0.5}, {"box_ap": 0.5011}, "better"),
        ({"box_ap": 0.5}, {"box_ap": 0.4989}, "worse"),
        ({"mask_ap": 0.5}, {"mask_ap": 0.4989}, "worse"),
        ({"mask_ap": 0.5}, {"mask_ap": None}, "same"),
        # A coefficient of 0.01 on both sides: 1.02 x 1.02 = 1.0404.
        ({"latency_p50_ms": 10.0}, {"latency_p50_ms": 10.40}, "same"),
        ({"latency_p50_ms": 10.0}, {"latency_p50_ms": 10.41}, "worse"),
        ({"latency_p50_ms": 10.40}, {"latency_p50_ms": 10.0}, "same"),
        ({"latency_p50_ms": 10.41}, {"latency_p50_ms": 10.0}, "better"),
        ({"latency_p50_ms": 10.0}, {"latency_p50_ms": None}, "same"),
        # Worse in one thing is worse, whatever the other is.
        ({"latency_p50_ms": 99.0}, {"box_ap": 0.4}, "worse"),
        ({"latency_p50_ms": 5.0}, {"box_ap": 0.6}, "worse"),
    ],
)
def test_a_verdict_is_of_statuses_then_of_ap_and_latency(
    a: Values | None, b: Values | None, verdict: str
) -> None:
    assert str(pair(a, b).verdict) == verdict


@pytest.mark.parametrize(
    ("cov_a", "cov_b", "ms", "beyond"),
    [
        (0.0, 0.0, 10.01, True),
        (0.0, 0.0, 10.0, False),
        (0.5, 0.25, 29.9, False),
        (0.5, 0.25, 30.1, True),
        (0.25, 0.5, 30.1, True),
        (0.5, 0.25, 3.34, False),
        (0.5, 0.25, 3.32, True),
        (None, 0.1, 99.0, None),
        (0.1, None, 99.0, None),
        (0.1, 0.1, None, None),
    ],
)
def test_noise_is_of_both_sides_and_more_samples_do_not_narrow_it(
    cov_a: float | None, cov_b: float | None, ms: float | None, beyond: bool | None
) -> None:
    for samples in (10, 10_000):
        a = {"latency_cov": cov_a, "samples": samples}
        b = {"latency_cov": cov_b, "samples": samples, "latency_p50_ms": ms}
        assert pair(a, b).is_beyond_noise is beyond


def test_figures_are_bs_against_as() -> None:
    found = pair({"box_ap": 0.5, "mask_ap": 0.25}, {"box_ap": 0.48, "latency_p50_ms": 12.5})
    assert found.ap_gain("box") == pytest.approx(-2) and found.ap_gain("mask") is None
    assert found.latency_ratio == 1.25
    assert found.value("mask_ap") == (0.25, None)
    alone = pair({}, None)
    assert alone.latency_ratio is None and alone.is_beyond_noise is None
    assert alone.ap_gain("box") is None and alone.unlike == ()


@pytest.mark.parametrize(
    ("a", "b", "bounds", "exceeded"),
    [
        ({}, {"box_ap": 0.4}, Bounds(), ()),
        ({}, {"latency_p50_ms": 99.0}, Bounds(), ()),
        ({}, {"latency_p50_ms": 99.0}, Bounds(max_ap_drop=0.0), ()),
        ({}, {"box_ap": 0.4}, Bounds(max_slowdown=0.0), ()),
        ({}, {"box_ap": 0.499}, Bounds(0.1), ()),
        ({}, {"box_ap": 0.6}, Bounds(0.0, 0.0), ()),
        ({}, {"box_ap": 0.4989}, Bounds(0.1), ("box AP",)),
        ({}, {"box_ap": 0.4989}, Bounds(0.0), ("box AP",)),
        ({"mask_ap": 0.3}, {"mask_ap": 0.2}, Bounds(1.0), ("mask AP",)),
        ({}, {"box_ap": None}, Bounds(1.0), ("box AP",)),
        ({"box_ap": None}, {"box_ap": None}, Bounds(1.0), ()),
        ({"box_ap": None}, {}, Bounds(1.0), ()),
        ({}, {"latency_p50_ms": 11.0}, Bounds(None, 10.0), ()),
        ({}, {"latency_p50_ms": 11.1}, Bounds(None, 10.0), ("latency",)),
        ({}, {"latency_p50_ms": 10.3}, Bounds(None, 0.0), ()),  # within the noise
        ({}, {"latency_p50_ms": 10.3, "latency_cov": None}, Bounds(None, 0.0), ("latency",)),
        ({}, {"latency_p50_ms": 9.0}, Bounds(None, 0.0), ()),
        ({}, {"latency_p50_ms": None}, Bounds(None, 10.0), ("latency",)),
        ({"latency_p50_ms": None}, {}, Bounds(None, 10.0), ()),
        ({}, {"box_ap": 0.1, "latency_p50_ms": 99.0}, Bounds(1.0, 5.0), ("box AP", "latency")),
        ({}, {"status": "failed", "box_ap": None}, Bounds(0.0, 0.0), ()),
        ({}, None, Bounds(0.0, 0.0), ()),
    ],
)
def test_bounds_are_of_ap_points_and_of_percent_beyond_the_noise(
    a: Values, b: Values | None, bounds: Bounds, exceeded: tuple[str, ...]
) -> None:
    assert pair(a, b).exceeds(bounds) == exceeded


def test_conditions_that_differ_are_named() -> None:
    a = {"device": "x", "threads": 2, "batch": 1, "input_shape": "1x3x8x8", "prepare_key": "k"}
    assert pair(a, a).unlike == ()
    assert pair(a, {**a, "threads": None}).unlike == ()
    assert pair(a, {**a, "device": "y", "prepare_key": "l"}).unlike == ("device", "prepared images")
    b = {**a, "threads": 4, "batch": 2, "input_shape": "1x3x9x9"}
    assert pair(a, b).unlike == ("threads", "batch", "input shape")


def matched(rows: list[dict[str, Any]], a: str, b: str) -> list[tuple[Any, Any]]:
    return [
        (one.a and one.a["reason"], one.b and one.b["reason"])
        for one in pairs(rows, parse(a), parse(b))
    ]


@pytest.mark.parametrize("text", ["earlier,demo,opset=17", "demo, earlier ,opset=17"])
def test_earlier_stands_anywhere_beside_what_is_selected(text: str) -> None:
    assert parse(text) == Selection(text, {"sweep": "demo", "opset": "17"}, earlier=True)
    assert not parse("demo").earlier


def test_releases_are_matched_by_every_other_axis() -> None:
    rows = [
        cell(runtime=runtime, shape=shape, opset=opset, sweep=sweep, reason=f"{runtime} {n}")
        for n, (shape, opset, sweep) in enumerate(
            [("fixed", 17, "s"), ("small", 17, "s"), ("fixed", 11, "s"), ("fixed", 17, "t")]
        )
        for runtime in ("openvino", "openvino@2025.2")
    ]
    found = matched(rows, "runtime=openvino", "runtime=openvino@2025.2")
    assert found == [(f"openvino {n}", f"openvino@2025.2 {n}") for n in range(4)]
    assert matched(rows[:-1], "runtime=openvino", "runtime=openvino@2025.2")[3][1] is None
    assert matched(rows, "s", "t")[0] == ("openvino 0", "openvino 3")
    assert matched(rows, "shape=fixed,opset=11", "shape=small,opset=17")[0][1] == "openvino 1"
    keys = pairs(rows, parse("runtime=openvino"), parse("runtime=openvino@2025.2"))[0].axes
    assert keys == {
        "sweep": "s", "model": "m", "opset": "17", "shape": "fixed", "postprocess": "graph",
        "precision": "fp32", "workspace": "-", "target": "cpu",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("model", ("a", "b")), ("opset", (11, 17)), ("shape", ("x", "y")),
        ("postprocess", ("graph", "host")), ("precision", ("fp32", "int8")),
        ("runtime", ("r", "r@1")), ("workspace_bytes", (1 << 30, 2 << 30)),
        ("target", ("cpu", "gpu")), ("sweep", ("s", "t")),
    ],
)  # fmt: skip
def test_every_axis_matches_and_selects(axis: str, values: tuple[Any, Any]) -> None:
    rows = [cell(**{axis: value, "reason": f"{value}"}) for value in values]
    other = "sweep" if axis != "sweep" else "target"
    same = f"{other}={rows[0][other]}"
    assert matched(rows, same, same) == [(str(value), str(value)) for value in values]
    name, texts = axis.removesuffix("_bytes"), [str(value) for value in values]
    words = ["1GiB", "2048MiB"] if name == "workspace" else texts
    assert matched(rows, *(f"{name}={word}" for word in words)) == [tuple(texts)]


def test_the_opset_of_a_ready_file_is_no_axis() -> None:
    rows = [
        cell(ready=True, sweep="s", opset=17),
        cell(ready=True, sweep="t", opset=None, status="failed"),
    ]
    (found,) = pairs(rows, parse("s"), parse("t"))
    assert found.verdict is Verdict.BROKE and found.axes["opset"] == "-"


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("demp", "demo", "demp: no sweep 'demp'; did you mean 'demo'?"),
        ("demo", "runtime=openvin", "runtime=openvin: no runtime 'openvin'; did you mean 'openv"),
        ("rutime=openvino", "demo", "no axis 'rutime'; did you mean 'runtime'?"),
        ("demo", "opset=170", "no opset '170'; did you mean '17'?"),
        ("demo", "opset=x", "no opset 'x'; expected one of: 17"),
        ("demo,again", "demo", "demo,again: sweep is selected twice"),
        ("demo,opset=11", "demo", "demo,opset=11: no opset '11'; expected one of: 17"),
        ("", "demo", "no sweep ''"),
        ("runtime=openvino,runtime=torch", "demo", "runtime is selected twice"),
        ("runtime=torch,opset=17", "demo", "runtime=torch,opset=17: no cell has all of these"),
        ("workspace=1", "demo", "no workspace '1'"),
        ("demo", "runtime=openvino", "it selects 2 rows to compare as one (first m.op17"),
        ("runtime=openvino", "demo", "select by sweep, too"),
        ("demo", "again,shape=fixed,runtime=openvino,opset=17", "select by opset or runtime, too"),
        ("runtime=openvino", "runtime=openvinx", "runtime=openvinx: no runtime"),
        ("demo", "runtime=openvinx", "runtime=openvinx: no runtime"),
    ],
)
def test_what_selects_nothing_or_too_much_is_named(a: str, b: str, said: str) -> None:
    rows = [
        cell(sweep="demo", runtime="torch", opset=None),
        cell(sweep="demo", runtime="openvino"),
        cell(sweep="again", runtime="openvino"),
        cell(sweep="again", runtime="openvino", shape="small"),
    ]
    with pytest.raises(InputError) as raised:
        pairs(rows, parse(a), parse(b))
    assert said in str(raised.value)


def test_a_file_that_has_a_cell_twice_is_to_be_made_again() -> None:
    with pytest.raises(InputError, match=r"s: it selects 2 rows .*; run its sweep again"):
        pairs([cell(), cell()], parse("s"), parse("s"))
