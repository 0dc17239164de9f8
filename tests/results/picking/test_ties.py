"""The fastest cell, what ties with it, and by what one is chosen."""

from __future__ import annotations

from typing import Any

import pytest
from rows import row

from farm.results.picking.answers import Answer
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.results.picking.ties import fastest, pareto, with_trade_offs


def ranked(cell: str, rank: int, low: float, high: float, **values: Any) -> dict[str, Any]:
    """A cell that was compared with the best one, whose median latency is 10 ms."""
    ratio = (low + high) / 2
    return row(
        cell, rank=rank, vs_best=ratio, vs_best_low=low, vs_best_high=high,
        **{"latency_p50_ms": 10 * ratio, **values},
    )  # fmt: skip


def named(rows: list[dict[str, Any]]) -> tuple[str, list[str], str]:
    found = fastest(rows)
    return found.best["cell"], sorted(one["cell"] for one in found.ties), found.chosen_by


def test_cells_that_were_not_compared_are_ordered_by_latency_and_nothing_ties() -> None:
    found = fastest([row("0", box_ap=None), row("b"), row("a"), row("c", latency_p50_ms=10.001)])
    assert (found.best["cell"], found.ties, found.compared) == ("a", (), 0)
    assert found.wide is False


def test_a_cell_that_is_shown_to_be_faster_than_all_has_no_ties() -> None:
    found = fastest([ranked("b", 2, 1.1, 1.2), ranked("a", 1, 1, 1), ranked("c", 3, 1.3, 1.4)])
    assert (found.best["cell"], found.ties, found.compared) == ("a", (), 2)
    assert found.chosen_by == ""


def test_those_of_the_first_rank_tie_whatever_their_intervals() -> None:
    rows = [ranked("a", 1, 1, 1), ranked("b", 1, 1.005, 1.01), ranked("c", 3, 1.1, 1.2)]
    assert named(rows) == ("a", ["b"], "name, since nothing else sets them apart")


def test_after_filters_the_fastest_left_ties_with_those_whose_intervals_overlap() -> None:
    rows = [
        ranked("a", 4, 1.10, 1.20), ranked("b", 5, 1.15, 1.30), ranked("c", 6, 1.20, 1.25),
        ranked("d", 6, 1.21, 1.40),
    ]  # fmt: skip
    assert named(rows)[:2] == ("a", ["b", "c"])


def test_what_was_not_compared_with_the_fastest_is_no_tie() -> None:
    rows = [ranked("a", 1, 1, 1), ranked("b", 1, 1, 1.01, sweep="t"), row("c", latency_p50_ms=10.1)]
    assert named(rows)[:2] == ("a", [])
    # The fastest by its median was not compared: nothing is known of the others beside it.
    found = fastest([*rows, row("d", latency_p50_ms=9.0)])
    assert (found.best["cell"], found.ties, found.compared) == ("d", (), 0)


def test_without_intervals_the_ranks_tell() -> None:
    unknown = {"vs_best_low": None, "vs_best_high": None}
    rows = [ranked("a", 1, 1, 1) | unknown, ranked("b", 1, 1, 1.2), ranked("c", 2, 1, 1) | unknown]
    assert named(rows)[:2] == ("a", ["b"])
    rows[0]["vs_best"] = None  # it was not compared with the best one itself
    assert named(rows)[:2] == ("c", [])
    assert named(rows[:2])[:2] == ("a", ["b"])


@pytest.mark.parametrize(
    ("first", "second", "chosen_by"),
    [
        ({}, {"box_ap": 0.5011}, "higher box AP (0.5011)"),
        ({}, {"box_ap": 0.5009, "runtime": "torch"}, "an ONNX file, which opens anywhere"),
        ({"mask_ap": 0.2}, {"mask_ap": 0.3}, "higher mask AP (0.3000)"),
        ({"peak_host_bytes": 112e6}, {"peak_host_bytes": 100e6}, "less memory (100.0 MB)"),
        (
            {"peak_host_bytes": 110e6, "build_s": 2.3}, {"peak_host_bytes": 100e6, "build_s": 2.0},
            "a faster build (2.00 s)",
        ),
        ({"runtime": "openvino"}, {"build_s": 2.0}, "an ONNX file, which opens anywhere"),
        (
            {"runtime": "gone@1"}, {"runtime": "onnxruntime@1.20", "build_s": 9.0},
            "an ONNX file, which opens anywhere",
        ),
    ],
)  # fmt: skip
def test_among_ties_the_choice_is_by_ap_memory_build_time_and_portable_file(
    first: dict[str, Any], second: dict[str, Any], chosen_by: str
) -> None:
    turned = chosen_by.startswith("an ONNX") and second.get("runtime") == "torch"
    rows = [ranked("a", 1, 1, 1, **first), ranked("b", 1, 1, 1.01, **second)]
    best, other = ("a", "b") if turned else ("b", "a")
    assert named(rows) == (best, [other], chosen_by)
    assert named(rows[::-1]) == (best, [other], chosen_by)


def test_a_time_that_is_much_shorter_counts_before_all_else_though_it_is_not_proven() -> None:
    unknown = {"vs_best_low": None, "vs_best_high": None}
    rows = [
        ranked("a", 1, 1, 1, peak_host_bytes=9e8), ranked("b", 1, 1.06, 1.06) | unknown,
        ranked("c", 1, 1.04, 1.04, peak_host_bytes=3e8) | unknown,
    ]  # fmt: skip
    rows[1]["peak_host_bytes"] = 1e8
    by = "the shorter time, which is not proven, then less memory (300.0 MB)"
    assert named(rows) == ("c", ["a", "b"], by)
    assert fastest(rows).wide and "a longer `farm compare` may" in pick(rows, Criteria()).why
    rows[2]["vs_best"] = None  # now the medians count, of which that of c is 4 % more than a's
    assert named(rows)[0] == "c"
    rows[2]["latency_p50_ms"] = 10.6
    assert named(rows)[0] == "a"
    for low, high, wide in ((0.93, 1.03, True), (0.95, 1.03, False), (1.0, 1.1, False)):
        assert fastest([ranked("a", 1, 1, 1), ranked("b", 1, low, high)]).wide == wide


def test_ratios_to_the_best_cell_count_before_medians() -> None:
    rows = [ranked("a", 1, 1, 1), ranked("b", 1, 1.06, 1.06, latency_p50_ms=10.0)]
    assert named(rows) == ("a", ["b"], "the shorter time, which is not proven")


def test_each_preference_is_among_those_that_the_one_before_leaves() -> None:
    rows = [
        ranked("a", 1, 1, 1, box_ap=0.49, peak_host_bytes=1e6),
        ranked("b", 1, 1, 1.01, peak_host_bytes=3e6),
        ranked("c", 1, 1, 1.01, peak_host_bytes=2e6),
    ]
    by = "higher box AP (0.5000), then less memory (2.0 MB)"
    assert named(rows) == ("c", ["a", "b"], by)


def test_the_name_decides_last_and_is_not_said_where_something_else_has_narrowed_them() -> None:
    rows = [ranked("b", 1, 1, 1), ranked("a", 1, 1, 1), ranked("c", 1, 1, 1, box_ap=0.4)]
    assert named(rows) == ("a", ["b", "c"], "higher box AP (0.5000)")


def test_the_pick_says_what_ties_with_it_and_what_decided() -> None:
    rows = [
        ranked("a", 1, 1, 1, peak_host_bytes=200e6),
        ranked("b", 1, 0.99, 1.02, peak_host_bytes=100e6),
        ranked("c", 3, 1.2, 1.3, peak_host_bytes=1e6),
    ]
    found = pick(rows, Criteria())
    assert [row["cell"] for row in found.eligible] == ["b", "a", "c"]
    assert found.why == (
        "one of the fastest of 3 eligible cells (of 3); compared side by side it cannot be told"
        " apart from a; chosen among them by less memory (100.0 MB)"
    )
    alone = pick([rows[0], rows[2]], Criteria())
    assert alone.why == (
        "fastest (10.00 ms) of 2 eligible cells (of 2); it ranks before the other compared with"
        " it side by side"
    )
    more = [row("d", latency_p50_ms=90.0), row("e", latency_p50_ms=90.0)]
    several = pick([rows[0], rows[2], rows[2], *more], Criteria()).why
    assert "the 2 others compared" in several and several.endswith(
        "; 2 more were not compared with it"
    )
    assert pick([*rows, *more], Criteria()).why.endswith("MB); 2 more were not compared with it")
    # Nothing else is left to compare it with.
    assert (
        pick(rows[:1], Criteria()).why
        == "lowest median latency (10.00 ms), the only eligible cell (of 1)"
    )


def test_ranks_hold_within_a_comparison() -> None:
    rows = [
        ranked("a", 1, 1, 1, compare_key="1" * 64), ranked("b", 1, 1, 1, compare_key="2" * 64),
        ranked("c", 2, 1.1, 1.2, compare_key="1" * 64),
    ]  # fmt: skip
    found = fastest(rows)
    assert (found.best["cell"], found.ties, found.compared) == ("a", (), 1)


def test_no_cell_of_the_front_is_beaten_in_both() -> None:
    rows = [
        row("slow", latency_p50_ms=9.0, box_ap=0.6), row("fast", latency_p50_ms=1.0, box_ap=0.2),
        row("beaten", latency_p50_ms=5.0, box_ap=0.2), row("same", latency_p50_ms=9.0, box_ap=0.5),
        row("raw", latency_p50_ms=0.5, box_ap=None), row("mid", latency_p50_ms=5.0, box_ap=0.4),
    ]  # fmt: skip
    rows += [row("slow raw", latency_p50_ms=9.5, box_ap=None)]
    assert [one["cell"] for one in pareto(rows)] == ["raw", "fast", "mid", "slow"]
    rows = [row("raw", latency_p50_ms=1.0, box_ap=None), row("fast", latency_p50_ms=1.0)]
    assert [one["cell"] for one in pareto(rows)] == ["fast"]
    rows = [row("a", box_ap=0.001), row("b", box_ap=0.002, latency_p50_ms=11.0)]
    assert [one["cell"] for one in pareto(rows)] == ["a"]  # 0.1 points are no gain


def test_a_pick_stands_on_the_front_for_its_ties_that_have_no_higher_ap() -> None:
    rows = [
        ranked("a", 1, 1, 1, box_ap=0.5), ranked("b", 1, 1, 1.02, box_ap=0.5005),
        ranked("c", 1, 1.1, 1.12, box_ap=0.6), ranked("d", 1, 0.99, 1.0, box_ap=0.4),
    ]  # fmt: skip
    found = pick(rows, Criteria(min_ap=0.45))
    assert (found.best or {})["cell"] == "a" and len(found.ties) == 2
    front = Answer("cpu", ("s",), (), {"m": found}, {}, 0).front()
    assert [one["cell"] for one in front] == ["a", "c"]


def test_a_pick_stands_on_the_front_for_a_faster_tie_of_the_same_ap() -> None:
    rows = [
        ranked("a", 1, 1, 1, box_ap=0.002), ranked("b", 1, 1, 1.02, box_ap=0.001, build_s=1.0),
    ]  # fmt: skip
    rows[0]["build_s"] = 2.0
    found = pick(rows, Criteria())
    assert (found.best or {})["cell"] == "b"
    front = Answer("cpu", ("s",), (), {"m": found}, {}, 0).front()
    assert [one["cell"] for one in front] == ["b"]


def test_the_front_has_what_each_cell_costs_and_gains_beside_the_fastest() -> None:
    front = [
        row("a", box_ap=0.5),
        row("b", box_ap=0.75, latency_p50_ms=25.0),
        row("c", box_ap=None),
    ]
    found = [(one["x_time"], one["points"]) for one in with_trade_offs(front)]
    assert found == [(1.0, 0.0), (2.5, 25.0), (1.0, None)]
    assert [one["points"] for one in with_trade_offs(front[::-1])] == [None] * 3


def test_of_many_ties_the_first_are_named_and_the_others_counted() -> None:
    rows = [ranked(name, 1, 1, 1) for name in "abcdef"]
    assert "apart from b, c, d, e, 1 more; chosen" in pick(rows, Criteria()).why
    assert "apart from b, c, d, e; chosen" in pick(rows[:-1], Criteria()).why


def test_equal_ap_goes_to_the_fastest_and_ties_are_said_there_too() -> None:
    rows = [
        ranked("a", 1, 1, 1, box_ap=0.5), ranked("b", 1, 1, 1.02, box_ap=0.5009, build_s=1.0),
        row("c", box_ap=0.4, latency_p50_ms=1.0),
    ]  # fmt: skip
    found = pick(rows, Criteria("ap"))
    assert (found.best or {})["cell"] == "a" and [one["cell"] for one in found.ties] == ["b"]
    assert found.why.startswith(
        "the fastest of 2 cells within 0.1 points of the highest box AP (0.5009) of 3 eligible"
    )
    assert "cannot be told apart from b" in found.why
    rows[1]["box_ap"] = 0.502
    assert pick(rows, Criteria("ap")).why == "highest box AP (0.5020) of 3 eligible cells (of 3)"
