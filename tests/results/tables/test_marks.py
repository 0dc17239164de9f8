"""What tables say of ties and unsteady measurements, and where rows stand."""

from __future__ import annotations

from rows import row

from farm.results.tables.marks import legend, marked
from farm.results.tables.render import render


def ranked(cell: str, rank: int | None, **values: object) -> dict[str, object]:
    return row(cell, rank=rank, compare_key="k", **values)


def test_ties_and_unsteady_rows_are_marked_and_explained() -> None:
    rows = [
        ranked("a", 1),
        ranked("b", 1, stable=False),
        ranked("c", 3, latency_p50_ms=123.45, stable=False),
        ranked("d", None, latency_p50_ms=1234.5, stable=False),
    ]
    found = marked(rows)
    assert [one["rank"] for one in found] == ["1=", "1=", 3, None]
    assert [one["latency_p50_ms"] for one in found] == [10.0, "10.00~", "123.5~", "1234~"]
    assert [line[:1] for line in legend(found)] == ["", "=", "~"] and legend(rows) == []
    for form in ("table", "markdown"):
        text = render(rows, form)
        assert "1=" in text and "10.00~" in text
        assert "cannot be told apart" in text
    assert "1=" not in render(rows, "csv") and "1=" not in render(rows, "json")


def test_an_unsteady_latency_has_the_fewer_decimals_the_longer_it_is() -> None:
    rows = [row("x", stable=False, latency_p50_ms=ms) for ms in (99.0, 100.0, 100.5, 1000, 1000.6)]
    shown = [one["latency_p50_ms"] for one in marked(rows)]
    assert shown == ["99.00~", "100.0~", "100.5~", "1000~", "1001~"]


def test_an_evaluation_that_was_stopped_says_so_in_place_of_its_ap() -> None:
    rows = [ranked("a", None, box_ap=None, stopped_early=True), ranked("b", None)]
    found = marked(rows)
    assert [one["box_ap"] for one in found] == ["stopped", 0.5]
    (line,) = legend(found)[1:]
    assert line.startswith("stopped: ") and line in render(rows, "table")


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
