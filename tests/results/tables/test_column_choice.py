"""Which columns a table shows in a terminal, and what is said of those that it has no room for."""

from __future__ import annotations

import itertools

import pytest
from rows import row

from farm.results.tables.column_choice import WIDE, left_out, shown_columns, that_fit
from farm.results.tables.render import render
from farm.results.tables.views import View

MORE = {
    "measured_at": "2026-11-30T01:51:33Z", "build_s": 1.5, "latency_p90_ms": 11.0, "rank": 1,
    "runtime_version": "1.31", "mask_ap": 0.4, "speedup_vs_fp32": 1.5, "opset": 17,
    "device": "a processor of a long name (avx2 avx512f avx512_vnni avx512_bf16 amx_int8 amx_bf16)",
}  # fmt: skip
ROWS = [row(name, **MORE) for name in "ab"]
ALWAYS = ["model", "runtime", "box_ap", "latency_p50_ms", "rank", "status"]


def names(width: int, model: str = "m") -> list[str]:
    rows = [{**one, "model": model} for one in ROWS]
    found, _ = that_fit(rows, shown_columns(rows), width)
    return [name for name, _, _ in found]


@pytest.mark.parametrize("width", [60, 80, 110, 200])
def test_no_line_is_wider_than_the_terminal_and_all_columns_are_named(width: int) -> None:
    lines = render(ROWS, "table", width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert sum("model" in line for line in lines) == 1  # one table
    assert any(line.endswith("--columns)") for line in lines) is (width < 200)


def test_a_wider_terminal_shows_more_columns_in_the_same_order() -> None:
    shown = [names(width) for width in range(20, 220)]
    usual = [name for name, _, _ in shown_columns(ROWS)]
    order = [*usual, *(name for name, _, _ in WIDE if ROWS[0].get(name) is not None)]
    for narrower, wider in itertools.pairwise(shown):
        assert len(narrower) <= len(wider)
    for some in shown:
        assert some == [name for name in order if name in some]
        assert set(ALWAYS) <= set(some)
    assert set(order) - set(shown[-1]) == set()


@pytest.mark.parametrize(
    ("width", "shown", "missing"),
    [
        (12, "model", "sweep mask_ap matched_fraction"),
        (13, "model mask_ap", "sweep matched_fraction"),
        (20, "model mask_ap", "sweep matched_fraction"),
        (21, "model sweep", "mask_ap matched_fraction"),  # of the sweep's 20 columns 15
        (33, "model sweep", "mask_ap matched_fraction"),
        (34, "model sweep mask_ap", "matched_fraction"),
        (44, "model sweep mask_ap", "matched_fraction"),
        (45, "model sweep mask_ap matched_fraction", ""),
    ],
)
def test_columns_are_as_wide_as_their_headings_and_values_and_the_gaps_between(
    width: int, shown: str, missing: str
) -> None:
    rows = [row("x", sweep="s" * 20, mask_ap=0.5, matched_fraction=1.0, threads=None)]
    columns = [("model", "model", "{}"), ("sweep", "sweep", "{}"), ("mask_ap", "mask AP", "{:.4f}")]
    found, others = that_fit(rows, columns, width)
    assert [name for name, _, _ in found] == shown.split()
    assert [name for name, _, _ in others] == missing.split()


def test_what_tells_cells_apart_goes_last() -> None:
    assert names(20) == ALWAYS
    for width in range(20, 120):
        some = names(width)
        if {"mask_ap", "box_ap_drop", "throughput_per_s", "speedup_vs_fp32"} & {*some}:
            assert {"opset", "shape"} <= {*some}
    long = names(80, model="a_model_with_a_name_of_more_than_forty_characters")
    assert long == ["model", "runtime", "opset", "shape", *ALWAYS[2:]]  # the name is folded


def test_a_pipe_and_columns_that_are_asked_for_leave_out_nothing() -> None:
    usual = [heading for _, heading, _ in shown_columns(ROWS)]
    piped = render(ROWS, "table").splitlines()
    assert piped[1].split() == " ".join(usual).split() and not any("Left" in one for one in piped)
    asked = View(columns=("model", "cell", "samples", "latency_p90_ms", "device"))
    lines = render(ROWS, "table", asked, width=40).splitlines()
    assert lines[0].split() == ["latency_p9"] and max(map(len, lines)) <= 40
    assert lines[1].split() == ["model", "cell", "samples", "0_ms", "device"]
    assert lines[3].split()[:4] == ["m", "a", "-", "11"] and "Left out" not in "".join(lines)


def test_the_line_names_what_is_left_out_by_the_names_of_the_options() -> None:
    columns = [("box_ap_drop", "drop", "{}"), ("mask_ap", "mask AP", "{}"), *WIDE]
    assert left_out([], 80) == []
    assert left_out(columns, 200) == [
        "Left out: bbox_mAP_drop, segm_mAP, vs_best, latency_p90_ms, latency_min_ms, bbox_mAP_50,"
        " matched_fraction, max_score_diff, samples, build_s and 3 more (wider terminal, or farm"
        " leaderboard --columns)"
    ]
    assert left_out(columns, 60) == [  # the usual ones are named in any case
        "Left out: bbox_mAP_drop, segm_mAP and 11 more (wider",
        "  terminal, or farm leaderboard --columns)",
    ]
    assert left_out(WIDE[:1], 80) == [
        "Left out: vs_best (wider terminal, or farm leaderboard --columns)"
    ]
