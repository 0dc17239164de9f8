"""Results: verdicts from raw pairs, rows in Parquet, the pick and its reasons, the tables."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rows import row

from farm.detections import Detections
from farm.detections.compare import Agreement, RawAgreement
from farm.detections.matching import match
from farm.errors import InputError
from farm.results import leaderboard
from farm.results.cells import read_agreement, read_raw_agreement
from farm.results.picking.answers import pick_as_text
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.results.picking.ties import pareto
from farm.results.tables.render import render, render_by_class
from farm.specs import Tolerance


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def verdict(
    tmp_path: Path, reference: Detections, engine: Detections, **limits: float
) -> Agreement:
    np.savez(tmp_path / "pairs.npz", **asdict(match([reference], [engine])))
    return read_agreement(tmp_path / "pairs.npz", Tolerance(**limits))  # type: ignore[arg-type]


def test_raw_outputs_are_told_apart_by_the_largest_difference(tmp_path: Path) -> None:
    path, columns = tmp_path / "raw.npz", ("max_abs_diff", "max_rel_diff", "cosine")
    values = np.array([[0.5, 0.25], [0.125, 0.0625], [0.75, 0.875]], np.float32)
    np.savez(path, name=np.array(["a", "b"]), **dict(zip(columns, values, strict=True)))
    found = read_raw_agreement(path, Tolerance(max_rel_diff=0.125))
    assert found == RawAgreement(0.5, 0.125, 0.75, None)
    assert read_raw_agreement(path, Tolerance(max_rel_diff=0.1)).reason == (
        "output a differs by 0.125 of its largest value, at most 0.1 allowed"
    )


BOXES = ((10, 10, 50, 50, 0.9, 0), (60, 60, 90, 90, 0.8, 1), (0, 0, 20, 20, 0.301, 0))


def test_the_same_boxes_in_another_order_agree(tmp_path: Path) -> None:
    agreement = verdict(tmp_path, found(*BOXES), found(*BOXES[::-1]))
    assert agreement.reason is None
    assert agreement.matched_fraction == 1 and agreement.max_score_diff == 0


def test_a_lost_box_an_added_box_and_another_class_are_told(tmp_path: Path) -> None:
    lost = verdict(tmp_path, found(*BOXES), found(*BOXES[1:]))
    assert lost.matched_fraction == pytest.approx(2 / 3)
    assert lost.reason is not None and "matched 0.6667 of 3 boxes (0 added)" in lost.reason
    added = verdict(tmp_path, found(*BOXES[:2]), found(*BOXES))
    assert added.added == 1 and added.matched_fraction == pytest.approx(2 / 3)
    other = verdict(tmp_path, found(*BOXES), found((10, 10, 50, 50, 0.9, 1), *BOXES[1:]))
    assert other.reason is not None and other.added == 1


def test_a_score_or_a_box_that_moved_is_told_with_its_size(tmp_path: Path) -> None:
    score = verdict(tmp_path, found(*BOXES), found((10, 10, 50, 50, 0.897, 0), *BOXES[1:]))
    assert score.reason == "scores differ by 0.003, at most 0.001 allowed"
    box = verdict(tmp_path, found(*BOXES), found((10, 10, 51.5, 50, 0.9, 0), *BOXES[1:]))
    assert box.reason == "boxes differ by 1.5 px, at most 1 px allowed"


def test_a_score_that_slips_under_the_threshold_is_no_lost_box(tmp_path: Path) -> None:
    slipped = found(*BOXES[:2], (0, 0, 20, 20, 0.2999, 0))
    assert verdict(tmp_path, found(*BOXES), slipped, max_score_diff=0.01).reason is None
    assert verdict(tmp_path, slipped, found(*BOXES), max_score_diff=0.01).reason is None


def test_an_object_that_only_the_engine_sees_is_told_even_beside_a_weak_box(tmp_path: Path) -> None:
    weak = found((0, 0, 20, 20, 0.05, 0), (60, 60, 80, 80, 0.06, 1))
    sure = found((0, 0, 20, 20, 0.95, 0), (75, 75, 95, 95, 0.97, 1))
    agreement = verdict(tmp_path, weak, sure)
    assert agreement.matched_fraction == 0.5 and agreement.reason is not None
    assert agreement.max_score_diff == pytest.approx(0.9)


def test_tolerances_are_read_after_the_run(tmp_path: Path) -> None:
    moved = found((10, 10, 50, 50, 0.85, 0), *BOXES[1:])
    assert verdict(tmp_path, found(*BOXES), moved).reason is not None
    assert read_agreement(tmp_path / "pairs.npz", Tolerance(max_score_diff=0.1)).reason is None


def test_nothing_to_compare_is_no_agreement(tmp_path: Path) -> None:
    weak = verdict(tmp_path, found((0, 0, 9, 9, 0.1, 0)), found((0, 0, 9, 9, 0.1, 0)))
    assert weak.reason is not None and "nothing to compare" in weak.reason


def test_the_best_overlap_is_taken_and_each_box_once() -> None:
    reference = found((0, 0, 10, 10, 0.9, 0), (1, 0, 11, 10, 0.8, 0))
    engine = found((1, 0, 11, 10, 0.8, 0), (0, 0, 10, 10, 0.9, 0))
    pairs = match([reference], [engine])
    assert pairs.iou.tolist() == [1, 1]
    assert pairs.engine_score.tolist() == pairs.reference_score.tolist()


def test_ap_by_class_has_a_line_for_each_class_of_a_cell() -> None:
    box, mask = '{"cat": 0.25, "=dog": null}', '{"cat": 0.125, "=dog": null}'
    rows = [
        row("a", box_ap_by_class=box, mask_ap_by_class=mask),
        row("b", box_ap_by_class=None, mask_ap_by_class=None),
    ]
    table = render_by_class(rows, "table").splitlines()
    assert [line.split() for line in table[2:]] == [
        ["a", "cat", "0.2500", "0.1250"],
        ["a", "=dog", "-", "-"],
    ]
    assert render_by_class(rows, "csv").splitlines()[2] == "s,a,'=dog,,"
    assert render_by_class(rows, "markdown").splitlines()[2] == "| a | cat | 0.2500 | 0.1250 |"
    with pytest.raises(InputError, match="no cell has AP by class"):
        render_by_class(rows[1:], "table")
    for wrong in ("[1]", "{", '{"cat": 2}', '{"cat": "x"}'):
        with pytest.raises(InputError, match="box_ap_by_class of a is no mapping"):
            render_by_class([{**rows[0], "box_ap_by_class": wrong}], "table")


def test_the_fastest_that_keeps_its_ap_is_picked_and_the_others_have_reasons() -> None:
    rows = [
        row("slow", latency_p50_ms=20.0),
        row("fast"),
        row("lossy", latency_p50_ms=5.0, box_ap=0.49, box_ap_drop=0.01),
        row("lossy_masks", latency_p50_ms=4.0, mask_ap=0.3, mask_ap_drop=0.02),
        row("wrong", latency_p50_ms=1.0, status="failed", reason="scores differ"),
        row("late", status="pending", reason="measure has not run", latency_p50_ms=None),
    ]
    picked = pick(rows, Criteria())
    assert picked.best is not None and picked.best["cell"] == "fast"
    assert picked.left_out == {
        "lossy": "loses 1.00 points of box AP, at most 0.5",
        "lossy_masks": "loses 2.00 points of mask AP, at most 0.5",
        "wrong": "failed: scores differ",
        "late": "pending: measure has not run",
    }
    assert "next is slow with 20.00 ms. They were not compared side by side" in picked.why
    assert (pick(rows, Criteria(max_ap_drop=1.0)).best or {})["cell"] == "lossy"
    assert pick(rows, Criteria(max_latency_ms=3)).best is None


def test_objectives_choose_differently() -> None:
    rows = [
        row("quick", latency_p50_ms=5.0, throughput_per_s=200.0, box_ap=0.4),
        row("batched", latency_p50_ms=9.0, throughput_per_s=400.0, box_ap=0.4),
        row("precise", latency_p50_ms=30.0, throughput_per_s=30.0, box_ap=0.6),
    ]
    best = {
        one: (pick(rows, Criteria(one)).best or {})["cell"]
        for one in ("latency", "throughput", "ap")
    }
    assert best == {"latency": "quick", "throughput": "batched", "ap": "precise"}
    why = "highest throughput (400.0 images/s) of 3 eligible cells (of 3); next is quick with 200.0"
    assert pick(rows, Criteria("throughput")).why == why
    assert pick(rows[::2], Criteria("throughput")).why.endswith("; next is precise with 30.0")
    alone = pick(rows[:1], Criteria("throughput")).why
    assert alone == "highest throughput (200.0 images/s), the only eligible cell (of 1)"
    assert [one["cell"] for one in pareto(rows)] == ["quick", "precise"]


def test_the_same_cell_of_two_sweeps_is_judged_twice() -> None:
    rows = [row("x", sweep="a"), row("x", sweep="b", status="failed", reason="no")]
    picked = pick(rows, Criteria())
    assert (picked.best or {})["sweep"] == "a"
    assert picked.left_out == {"b: x": "failed: no"}


def test_equal_speed_goes_to_the_better_ap() -> None:
    rows = [row("b", box_ap=0.4), row("a", latency_p50_ms=10.1), row("c")]
    assert (pick(rows, Criteria()).best or {})["cell"] == "c"


def test_parquet_is_read_as_one_table_by_pandas_and_by_us(tmp_path: Path) -> None:
    rows = [row("x", opset=17), row("y", box_ap=None, reason="why", target="gpu")]
    leaderboard.write(rows, tmp_path, "s")
    table = pd.read_parquet(tmp_path / "leaderboard").set_index("cell")
    assert table.loc["x", "target"] == "cpu" and table.loc["y", "sweep"] == "s"
    assert pd.isna(table.loc["y", "bbox_mAP"]) and pd.isna(table.loc["x", "reason"])
    path = tmp_path / "leaderboard/target=cpu/sweep=s/leaderboard.parquet"
    assert pq.read_schema(path).metadata[b"schema_version"] == b"8"
    assert leaderboard.read(tmp_path, target="cpu")[0]["opset"] == 17
    leaderboard.write(rows[:1], tmp_path, "s")
    assert len(leaderboard.read(tmp_path)) == 1  # the target that is gone is gone
    with pytest.raises(InputError, match="no target 'cpuu'; did you mean 'cpu'"):
        leaderboard.read(tmp_path, target="cpuu")
    with pytest.raises(InputError, match="no leaderboard here"):
        leaderboard.read(tmp_path / "empty")


def test_tables_fit_80_columns_and_say_why_cells_failed() -> None:
    long = {"model": "mask_rcnn_r50", "shape": "dynamic", "mask_ap": 0.3, "box_ap_drop": -1e-9}
    rows = [
        row("x", opset=17, **long),
        row("y", status="failed", failed_stage="export", reason="no"),
    ]
    table = render(rows, "table")
    assert max(map(len, table.splitlines())) <= 80
    assert "failed at export: y\n  no" in table
    assert "-0.0000" not in table
    assert render(rows, "markdown").startswith("| model | runtime |")
    assert len(json.loads(render(rows, "json"))) == 2
    assert [one["cell"] for one in csv.DictReader(io.StringIO(render(rows, "csv")))] == ["y", "x"]
    assert "Ship x" in pick_as_text(pick(rows, Criteria()), {"engine": "/store/engine"})
