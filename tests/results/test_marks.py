"""What tables say of ties, intervals and unsteady measurements, and where they stand."""

from __future__ import annotations

from rows import row

from farm.results.marks import legend, marked
from farm.results.tables import render


def ranked(cell: str, rank: int | None, **values: object) -> dict[str, object]:
    return row(cell, rank=rank, compare_key="k", **values)


def test_ties_intervals_and_unsteady_rows_are_marked_and_explained() -> None:
    rows = [
        ranked("a", 1, vs_best=1.0, vs_best_low=1.0, vs_best_high=1.0),
        ranked("b", 1, vs_best=1.01, vs_best_low=0.99, vs_best_high=1.03, stable=False),
        ranked("c", 3, vs_best=1.5, vs_best_low=1.4, vs_best_high=1.6),
        ranked("d", None, vs_best=None),
    ]
    found = marked(rows)
    assert [one["rank"] for one in found] == ["1=", "1=", 3, None]
    assert [one.get("vs_best") for one in found] == ["1.00", "0.99-1.03", "1.40-1.60", None]
    assert found[1]["latency_p50_ms"] == "10.00~" and found[0]["latency_p50_ms"] == 10.0
    assert [line[:1] for line in legend(found)] == ["", "=", "~"] and legend(rows) == []
    for form in ("table", "markdown"):
        text = render(rows, form)
        assert "1=" in text and "0.99-1.03" in text and "10.00~" in text
        assert "cannot be told apart" in text
    assert "1=" not in render(rows, "csv") and "1=" not in render(rows, "json")


def test_an_evaluation_that_was_stopped_says_so_in_place_of_its_ap() -> None:
    rows = [ranked("a", None, box_ap=None, stopped_early=True), ranked("b", None)]
    found = marked(rows)
    assert [one["box_ap"] for one in found] == ["stopped", 0.5]
    (line,) = legend(found)[1:]
    assert line.startswith("stopped: ") and line in render(rows, "table")


def test_an_interval_without_an_end_leaves_the_value() -> None:
    (found,) = marked([ranked("a", 2, vs_best=3.0, vs_best_low=2.0, vs_best_high=None)])
    assert found["vs_best"] == 3.0 and found["rank"] == 2


def test_equal_ranks_of_two_comparisons_are_no_tie() -> None:
    rows = [ranked("a", 1), {**ranked("b", 1), "compare_key": "other"}]
    assert [one["rank"] for one in marked(rows)] == [1, 1]


def test_rows_stand_by_rank_and_then_by_latency() -> None:
    rows = [
        row("failed", status="failed", failed_stage="build", reason="x"),
        ranked("slow", None, latency_p50_ms=1.0), ranked("second", 2, latency_p50_ms=2.0),
        ranked("first", 1, latency_p50_ms=3.0), ranked("also", 1, latency_p50_ms=2.5),
    ]  # fmt: skip
    found = render(rows, "csv").splitlines()[1:]
    assert [line.partition(",")[0] for line in found] == [
        "also", "first", "second", "slow", "failed",
    ]  # fmt: skip
