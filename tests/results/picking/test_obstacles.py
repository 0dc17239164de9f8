"""Where no engine meets the criteria: which constraint is in the way, and by how much."""

from __future__ import annotations

from typing import Any

import pytest
from rows import row

from farm.results.conditions import parse
from farm.results.picking.answers import pick_as_text
from farm.results.picking.criteria import Criteria
from farm.results.picking.obstacles import obstacles
from farm.results.picking.select import pick

ROWS = [
    row("quick", latency_p50_ms=5.0, box_ap=0.4, engine_bytes=10_000_000),
    row("slow", latency_p50_ms=23.1, box_ap=0.5, engine_bytes=30_000_000, runtime="openvino"),
    row("slower", latency_p50_ms=30.0, box_ap=0.5, engine_bytes=20_000_000),
    row("failed", status="failed", reason="no operator", latency_p50_ms=None),
]


def lines(wish: Criteria, rows: list[dict[str, Any]] = ROWS) -> list[str]:
    return pick_as_text(pick(rows, wish), {}).splitlines()


def test_the_one_constraint_that_is_in_the_way_is_said_with_the_nearest_cell() -> None:
    assert lines(Criteria(max_latency_ms=4)) == [
        "No engine to ship: none of 4 cells meets the criteria.",
        "  --max-latency-ms 4: the fastest takes 5.00 ms, 1.00 ms over; without it 3",
        "    engines are left",
    ]
    assert lines(Criteria(min_ap=0.6))[1:] == [
        "  --min-ap 0.6: the most accurate has box AP 0.5000, 0.1000 under; without it",
        "    3 engines are left",
    ]


def test_the_nearest_is_one_of_those_that_meet_the_other_constraints() -> None:
    found = pick(ROWS, Criteria(max_latency_ms=20, min_ap=0.45)).obstacles
    assert [(one.constraint, one.cell, one.missed, one.left) for one in found] == [
        ("--max-latency-ms 20", "slow", 2, 2), ("--min-ap 0.45", "quick", 1, 1),
    ]  # fmt: skip
    assert [one.missed_by for one in found] == [pytest.approx(3.1), pytest.approx(0.05)]
    assert found[0].reason == "the fastest takes 23.10 ms, 3.10 ms over"


def test_those_without_which_engines_are_left_come_first() -> None:
    where = (parse("engine_bytes < 1MB"), parse("engine_bytes < 15MB"))
    found = pick(ROWS, Criteria(where=where, max_latency_ms=20)).obstacles
    assert [(one.constraint, one.left) for one in found] == [
        ("--where 'engine_bytes < 1MB'", 1), ("--where 'engine_bytes < 15MB'", 0),
        ("--max-latency-ms 20", 0),
    ]  # fmt: skip


def test_where_no_single_one_is_in_the_way_that_is_said() -> None:
    assert lines(Criteria(max_latency_ms=4, min_ap=0.6))[1:] == [
        "  --min-ap 0.6: the most accurate has box AP 0.5000, 0.1000 under; 3 cells",
        "    miss it",
        "  --max-latency-ms 4: the fastest takes 5.00 ms, 1.00 ms over; 3 cells miss it",
        "  Without any single one of these no engine is left, either.",
    ]


def test_a_value_that_no_cell_has_is_said_with_the_nearest_one() -> None:
    assert lines(Criteria(where=(parse("runtime = openvno"),)))[1:] == [
        "  --where 'runtime = openvno': no runtime 'openvno'; did you mean 'openvino'?",
        "    without it 3 engines are left",
    ]
    some = pick(ROWS, Criteria(where=(parse("runtime = openvino"),), max_latency_ms=20)).obstacles
    assert some[0].reason == "the nearest has runtime onnxruntime, expected openvino"
    raw = pick(ROWS, Criteria(postprocess="host")).obstacles
    assert raw[0].reason == "no postprocess 'host'; expected one of: graph"
    assert raw[0].missed_by is None


def test_two_engines_and_two_cells_are_in_the_plural() -> None:
    assert lines(Criteria(max_latency_ms=4), ROWS[:2])[1:] == [
        "  --max-latency-ms 4: the fastest takes 5.00 ms, 1.00 ms over; without it 2",
        "    engines are left",
    ]
    assert lines(Criteria(max_latency_ms=4, min_ap=0.6), ROWS[:2])[3].endswith("2 cells miss it")


def test_of_cells_that_miss_it_alike_the_fastest_is_the_nearest() -> None:
    rows = [row("unmeasured", latency_p50_ms=None), *reversed(ROWS[:3])]
    (found,) = obstacles(rows, [parse("stable = no")])
    assert (found.cell, found.missed, found.left) == ("quick", 4, 4)


def test_a_column_that_is_empty_in_all_cells_has_no_nearest_value() -> None:
    rows = [row("a", fallback=None), row("b", fallback=None)]
    (found,) = pick(rows, Criteria(where=(parse("fallback = cpu"),))).obstacles
    assert found.reason == "the nearest has no fallback"


def test_one_cell_and_one_engine_are_in_the_singular() -> None:
    only = ROWS[1:2]
    assert lines(Criteria(max_latency_ms=20), only)[-2:] == [
        "  --max-latency-ms 20: the fastest takes 23.10 ms, 3.10 ms over; without it 1",
        "    engine is left",
    ]
    assert lines(Criteria(max_latency_ms=20, min_ap=0.6), only)[1:3] == [
        "  --min-ap 0.6: the most accurate has box AP 0.5000, 0.1000 under; 1 cell",
        "    misses it",
    ]


def test_where_no_cell_can_be_judged_the_reasons_are_said() -> None:
    assert lines(Criteria(max_latency_ms=4), ROWS[3:]) == [
        "No engine to ship: none of 1 cells may be shipped.", "  failed: failed: no operator",
    ]  # fmt: skip


def lost(cell: str, drop: float, low: float | None, high: float | None, **more: Any) -> Any:
    return row(cell, box_ap_drop=drop, box_ap_drop_low=low, box_ap_drop_high=high, **more)


def test_with_confidence_the_upper_end_of_the_interval_counts() -> None:
    rows = [
        lost("sure", 0.001, -0.001, 0.005, latency_p50_ms=9.0),
        lost("unsure", 0.001, -0.007, 0.0051, latency_p50_ms=5.0),
        lost("equal", 0.0, 0.0, 0.0, latency_p50_ms=12.0),
    ]
    assert (pick(rows, Criteria()).best or {})["cell"] == "unsure"
    found = pick(rows, Criteria(confident=True))
    assert (found.best or {})["cell"] == "sure"
    assert found.left_out == {
        "unsure": "loses -0.70 to 0.51 points of box AP (95 % interval): its images are too few to"
        " tell whether it keeps to 0.5, at most 0.5"
    }
    assert (pick(rows, Criteria(confident=True, max_ap_drop=0.2)).best or {})["cell"] == "equal"


def test_without_being_asked_to_be_confident_the_pick_says_what_is_not_shown() -> None:
    unsure = lost("x", 0.001, -0.007, 0.0061, evaluate_images=64)
    said = "loses -0.70 to 0.61 points of box AP (95 % interval): 64 images are too few to tell"
    found = pick([unsure], Criteria())
    assert found.doubt == f"{said} whether it keeps to 0.5"
    assert pick_as_text(found, {}).splitlines()[-3:] == [
        "  note    loses -0.70 to 0.61 points of box AP (95 % interval): 64 images are",
        "          too few to tell whether it keeps to 0.5; --confident leaves out what",
        "          is not shown",
    ]
    assert pick([unsure], Criteria(max_ap_drop=0.7)).doubt == ""
    assert pick([row("x")], Criteria()).doubt == "" == pick([row("x")], Criteria(min_ap=0.9)).doubt


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"box_ap_drop_high": 0.009, "box_ap_drop_low": 0.006, "box_ap_drop": 0.007},
            "loses 0.70 points of box AP, at most 0.5",
        ),
        (
            {"box_ap_drop_high": 0.009, "box_ap_drop_low": 0.001, "evaluate_images": 64},
            "loses 0.10 to 0.90 points of box AP (95 % interval): 64 images are too few to tell"
            " whether it keeps to 0.5, at most 0.5",
        ),
        (
            {"box_ap_drop_high": 0.009, "box_ap_drop_low": 0.001, "box_ap_drop": 0.5 - 0.495},
            "loses 0.10 to 0.90 points of box AP (95 % interval): its images are too few to tell"
            " whether it keeps to 0.5, at most 0.5",
        ),
        (
            {"box_ap_drop_high": 0.009, "box_ap_drop_low": 0.001, "box_ap_drop": None},
            "loses 0.10 to 0.90 points of box AP (95 % interval), at most 0.5",
        ),
        (
            {"box_ap_drop_high": 0.009}, "loses - to 0.90 points of box AP (95 % interval): its"
            " images are too few to tell whether it keeps to 0.5, at most 0.5",
        ),
        (
            {"mask_ap": 0.3, "mask_ap_drop": 0.0, "mask_ap_drop_high": 0.006,
             "mask_ap_drop_low": 0.0, "box_ap_drop_high": 0.0},
            "loses 0.00 to 0.60 points of mask AP (95 % interval): its images are too few to tell"
            " whether it keeps to 0.5, at most 0.5",
        ),
        ({}, "has no known interval of its box AP drop (run its sweep again)"),
        (
            {"box_ap_drop_high": 0.0, "mask_ap": 0.3, "mask_ap_drop": 0.0},
            "has no known interval of its mask AP drop (run its sweep again)",
        ),
        ({"box_ap_drop": None}, "has no known interval of its box AP drop (run its sweep again)"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_said(values: dict[str, Any], reason: str) -> None:
    assert pick([row("x", **values)], Criteria(confident=True)).left_out == {"x": reason}


def test_how_far_an_interval_is_over_the_bound_is_said() -> None:
    rows = [lost("x", 0.001, -0.001, 0.009), lost("y", 0.002, -0.001, 0.007)]
    (found,) = pick(rows, Criteria(confident=True)).obstacles
    assert (found.constraint, found.cell, found.left) == (
        "--confident with --max-ap-drop 0.5",
        "y",
        2,
    )
    assert found.missed_by == pytest.approx(0.2)
    assert found.reason.endswith("whether it keeps to 0.5, 0.20 points over")
    (drop,) = pick([row("x", box_ap_drop=0.008)], Criteria()).obstacles
    assert drop.reason == "the nearest loses 0.80 points of box AP, 0.30 points over"
    assert drop.missed_by == pytest.approx(0.3)
    (unknown,) = pick([row("x")], Criteria(confident=True)).obstacles
    assert unknown.missed_by is None and "no known interval" in unknown.reason


def test_raw_outputs_have_no_ap_to_be_confident_of() -> None:
    raw = row("x", postprocess="none", box_ap=None, box_ap_drop=None)
    assert pick([raw], Criteria(confident=True, postprocess="none")).best == raw
