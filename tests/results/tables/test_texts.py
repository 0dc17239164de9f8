"""What tables, picks and addresses say, to the word."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from rows import row

from farm.detections.compare import agreement
from farm.errors import InputError
from farm.results.names import with_outer_names
from farm.results.picking.answers import Answer, pick_as_json, pick_as_text
from farm.results.picking.criteria import Criteria
from farm.results.picking.select import pick
from farm.results.tables.escaping import shown, without_secrets
from farm.results.tables.render import render, render_by_class, sort_rows
from farm.specs import Tolerance


def pairs(**columns: Any) -> dict[str, Any]:
    base = {
        "reference_score": [0.9, 0.8], "engine_score": [0.9, 0.8], "iou": [1.0, 1.0],
        "box_diff_px": [0.0, 0.0], "mask_iou": [1.0, 1.0], "mask_score_diff": [0.0, 0.0],
    }  # fmt: skip
    return {name: np.array(value, np.float32) for name, value in (base | columns).items()}


@pytest.mark.parametrize(
    ("columns", "limits", "reason"),
    [
        ({}, {}, None),
        ({"mask_iou": [1.0, 0.8]}, {}, "masks overlap by 0.800, expected 0.9"),
        ({"mask_iou": [1.0, 0.9]}, {"min_mask_iou": 0.875}, None),
        ({"mask_iou": [np.nan, np.nan]}, {}, None),
        ({"box_diff_px": [0.0, 2.0]}, {}, "boxes differ by 2 px, at most 1 px allowed"),
        ({"box_diff_px": [0.0, 2.0]}, {"max_box_diff_px": 2.0}, None),
        ({"engine_score": [0.9, 0.75]}, {}, "scores differ by 0.05, at most 0.001 allowed"),
        (
            {"engine_score": [0.9, 0.75]}, {"per_box": True},
            "0.500 of 2 boxes agree (scores within 0.001, boxes within 1 px and IoU 0.9), "
            "expected 0.99",
        ),
        (
            {"mask_iou": [1.0, 0.8]}, {"per_box": True},
            "0.500 of 2 boxes agree (scores within 0.001, boxes within 1 px and IoU 0.9), "
            "expected 0.99",
        ),
        ({"mask_iou": [1.0, 0.8]}, {"per_box": True, "min_matched_fraction": 0.5}, None),
        (
            {"reference_score": [0.1, 0.1], "engine_score": [0.1, 0.1]}, {"per_box": True},
            "no box scores 0.3 or more: nothing to compare",
        ),
    ],
)  # fmt: skip
def test_the_first_tolerance_that_does_not_hold_is_said(
    columns: dict[str, Any], limits: dict[str, Any], reason: str | None
) -> None:
    assert agreement(pairs(**columns), Tolerance(**limits)).reason == reason


def test_what_is_no_address_is_shown_only_where_it_can_hold_no_secret() -> None:
    assert shown("mlruns/x-1.db") == "mlruns/x-1.db"
    assert shown("bob:s3cr3t") == "***"
    assert shown("http://bob:s3cr3t@h/x?token=s#y") == "http://***@h/x?***"
    assert shown("http://h/x?t=1") == "http://h/x?***"
    assert shown("http://h/x#t") == "http://h/x#***"
    assert "s3cr3t" not in without_secrets("bob said s3cr3t", "http://bob:s3cr3t@h")


CLASSES = json.dumps({"circle": 0.5, "star": None})


def test_classes_are_shown_in_each_format() -> None:
    rows = [row("x", box_ap_by_class=CLASSES, mask_ap_by_class=None)]
    found = json.loads(render_by_class(rows, "json"))
    assert found == [
        {"sweep": "s", "cell": "x", "class": "circle", "bbox_mAP": 0.5, "segm_mAP": None},
        {"sweep": "s", "cell": "x", "class": "star", "bbox_mAP": None, "segm_mAP": None},
    ]
    assert render_by_class(rows, "csv").splitlines() == [
        "sweep,cell,class,bbox_mAP,segm_mAP", "s,x,circle,0.5,", "s,x,star,,",
    ]  # fmt: skip
    assert render_by_class(rows, "markdown").splitlines() == [
        "| cell | class | box AP | mask AP |", "|---|---|---|---|",
        "| x | circle | 0.5000 | - |", "| x | star | - | - |",
    ]  # fmt: skip
    assert render_by_class(rows, "table").splitlines() == [
        "cell  class   box AP  mask AP", "----  ------  ------  -------",
        "x     circle  0.5000        -", "x     star         -        -",
    ]  # fmt: skip
    for wrong in ("[", "[1]", '{"a": 2}'):
        with pytest.raises(InputError, match="box_ap_by_class of x is no mapping of classes to AP"):
            render_by_class([row("x", box_ap_by_class=wrong, mask_ap_by_class=None)], "table")


def test_rows_are_by_target_and_model_the_fastest_first_and_failed_ones_last() -> None:
    rows = [
        row("a", target="gpu"), row("b", status="failed", latency_p50_ms=1.0),
        row("c", latency_p50_ms=None), row("d", latency_p50_ms=5.0), row("e", model="l"),
        row("f", sweep="r"),
    ]  # fmt: skip
    assert [one["cell"] for one in sort_rows(rows)] == ["f", "e", "d", "c", "b", "a"]


def test_the_same_reason_is_said_once_with_how_many_it_cost() -> None:
    bad = {"status": "failed", "failed_stage": "build", "reason": "no operator\nNonZero"}
    rows = [row("a", **bad), row("b", **bad), row("c", **{**bad, "failed_stage": "export"})]
    rows += [row("d", status="pending", reason="build has not run")]
    rows += [row("e", status="pending", reason="build has not run: no H100")]
    text = render(rows, "table").split("\n\n")[1]
    assert text.splitlines() == [
        "failed at build: a and 1 more", "  no operator", "  NonZero",
        "failed at export: c", "  no operator", "  NonZero",
        "pending: e", "  build has not run: no H100",
    ]  # fmt: skip


def test_a_table_lines_up_its_numbers() -> None:
    text = render(
        [row("x", opset=9, box_ap_drop=-0.00001), row("y", latency_p50_ms=123.456)], "table"
    )
    lines = text.splitlines()
    assert lines[0] == "Leaderboard of sweep s, target cpu: a cpu"
    assert lines[1] == "model  runtime      op  shape  box AP     drop  p50 ms  img/s  status"
    assert lines[3] == "m      onnxruntime   9  fixed  0.5000  +0.0000   10.00    100  ok"
    assert lines[4] == "m      onnxruntime   -  fixed  0.5000  +0.0000  123.46    100  ok"


def test_a_pick_is_said_with_its_figures_and_its_files() -> None:
    best = row(
        "x", latency_p50_ms=8.0, latency_p90_ms=9.5, mask_ap=0.25, mask_ap_reference=0.3,
        mask_ap_drop=0.001, latency_cov=0.1, samples=100, stable=False, box_ap_reference=None,
    )  # fmt: skip
    other = row("y", latency_p50_ms=8.08, latency_cov=0.2, samples=64)
    slow = row("z", status="failed", reason="why")
    picked = pick([other, slow, best], Criteria())
    assert picked.left_out == {"z": "failed: why"} and [r["cell"] for r in picked.eligible] == [
        "x",
        "y",
    ]
    assert picked.why == (
        "lowest median latency (8.00 ms) of 2 eligible cells (of 3); next is y with 8.08 ms. They"
        " were not compared side by side, so which of them is faster is not proven (`farm compare`"
        " tells)"
    )
    assert pick_as_text(picked, {"engine": "/e"}).splitlines() == [
        "Ship x",
        "  why      lowest median latency (8.00 ms) of 2 eligible cells (of 3); next is",
        "           y with 8.08 ms. They were not compared side by side, so which of",
        "           them is faster is not proven (`farm compare` tells)",
        "  box AP   0.5000 (PyTorch -)",
        "  mask AP  0.2500 (PyTorch 0.3000)",
        "  speed    p50 8.00 ms, p90 9.50 ms, 100.0 images/s on 2 threads",
        "  device   a cpu",
        "  engine   /e",
        "  note     the measurement drifted; on a quieter machine take it again:",
        "           farm run MATRIX --again measure --only unstable",
    ]
    answer = Answer("cpu", ("s",), (), {"m": picked}, {"m": {"engine": "/e"}}, 0)
    assert pick_as_json(answer, "m") == {
        "target": "cpu", "model": "m", "sweeps": ["s"], "why": picked.why,
        "best": with_outer_names([best])[0],
        "ties": [], "doubt": "", "files": {"engine": "/e"}, "left_out": {"z": "failed: why"},
        "obstacles": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("streams", "batch", "said"),
    [
        (None, None, None), (1, 1, None), (2, 1, "2 requests at once"), (1, 2, "batches of 2"),
        (2, 4, "2 requests at once and batches of 4"),
    ],
)  # fmt: skip
def test_how_images_were_given_for_the_throughput_is_said(
    streams: int | None, batch: int | None, said: str | None
) -> None:
    best = row("x", throughput_streams=streams, throughput_batch=batch)
    lines = pick_as_text(pick([best], Criteria()), {}).splitlines()
    assert [line.strip() for line in lines if "images/s with" in line] == (
        [f"(images/s with {said})"] if said else []
    )


@pytest.mark.parametrize(
    ("values", "wish", "reason"),
    [
        ({"box_ap_drop": 0.00501}, Criteria(), "loses 0.50 points of box AP, at most 0.5"),
        ({"box_ap_drop": 0.005}, Criteria(), None),
        (
            {"mask_ap_drop": 0.02}, Criteria(max_ap_drop=1),
            "loses 2.00 points of mask AP, at most 1",
        ),
        ({"latency_p50_ms": None}, Criteria(), "not measured"),
        ({"latency_p50_ms": 10.5}, Criteria(max_latency_ms=10), "takes 10.50 ms, at most 10.00 ms"),
        ({"latency_p50_ms": 10.0}, Criteria(max_latency_ms=10), None),
        ({"box_ap": None}, Criteria(), "its AP is unknown"),
        (
            {"box_ap": None, "stopped_early": True, "box_ap_drop_low": 0.021},
            Criteria(),
            "stopped early: 2.10 points of box AP or more lost for sure",
        ),
        (
            {"postprocess": "host"}, Criteria(postprocess="none"),
            "has postprocess host, expected none",
        ),
        (
            {"box_ap": None, "postprocess": "none"}, Criteria(),
            "raw outputs have no AP; --postprocess none selects them",
        ),
        ({"box_ap": None, "postprocess": "none"}, Criteria(postprocess="none"), None),
    ],
)  # fmt: skip
def test_a_cell_is_left_out_for_its_reason(
    values: dict[str, Any], wish: Criteria, reason: str | None
) -> None:
    picked = pick([row("x", **values)], wish)
    assert picked.left_out == ({"x": reason} if reason else {})
    assert (picked.best is None) == bool(reason)


def test_ten_cells_that_may_not_be_shipped_are_listed() -> None:
    rows = [row(f"c{number:02}", latency_p50_ms=None) for number in range(12)]
    lines = pick_as_text(pick(rows, Criteria()), {}).splitlines()
    assert lines[0] == "No engine to ship: none of 12 cells may be shipped."
    assert lines[1:] == [f"  c{number:02}: not measured" for number in range(10)]


@pytest.mark.parametrize(("length", "gap"), [(16, "  "), (17, " ")])
def test_a_table_of_more_than_80_columns_has_narrower_gaps(length: int, gap: str) -> None:
    lines = render([row("x", model="m" * length, opset=17)], "table").splitlines()
    assert lines[3].startswith("m" * length + gap + "onnxruntime")
    assert len(lines[2]) == (80 if gap == "  " else 73)


def test_names_of_columns_in_csv_are_as_harmless_as_values() -> None:
    header = render([row("x") | {"=1+1": 1, "a\0b": 2}], "csv").splitlines()[0]
    assert header.endswith(",'=1+1,a\\x00b")
