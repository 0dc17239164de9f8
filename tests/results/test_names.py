"""Names of columns outside: AP as MMDetection prints it, everything else as in rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rows import row

from farm.results import leaderboard
from farm.results.columns import COLUMNS
from farm.results.conditions import parse
from farm.results.leaderboard.arrow import table_of
from farm.results.names import inner, outer
from farm.results.tables.render import render
from farm.store.figures import AP_NAMES


@pytest.mark.parametrize(
    ("own", "outside"),
    [
        ("box_ap", "bbox_mAP"), ("box_ap50", "bbox_mAP_50"), ("mask_ap75", "segm_mAP_75"),
        ("box_ap_s", "bbox_mAP_s"), ("mask_ap_drop_low", "segm_mAP_drop_low"),
        ("box_ap_by_class", "bbox_mAP_by_class"), ("box_ap_gain", "bbox_mAP_gain"),
        ("latency_p50_ms", "latency_p50_ms"), ("max_box_diff_px", "max_box_diff_px"),
        ("mailbox_ap", "mailbox_ap"), ("box_apex", "box_apex"),
    ],
)  # fmt: skip
def test_ap_has_the_names_that_mmdetection_prints(own: str, outside: str) -> None:
    assert outer(own) == outside and inner(outside) == own and inner(own) == own


def test_no_two_columns_have_one_name() -> None:
    assert len(set(map(outer, COLUMNS))) == len(COLUMNS)
    assert [inner(outer(name)) for name in COLUMNS] == [*COLUMNS]
    assert {outer(name) for name in AP_NAMES} >= {"bbox_mAP", "bbox_mAP_50", "segm_mAP_l"}


def test_files_csv_and_json_have_these_names_and_rows_their_own(tmp_path: Path) -> None:
    rows = [row("a", box_ap=0.25, mask_ap=0.5)]
    names = table_of(rows).column_names
    assert {"bbox_mAP", "segm_mAP_drop", "bbox_mAP_50"} <= set(names)
    assert not [name for name in names if name.startswith(("box_ap", "mask_ap"))]
    leaderboard.write(rows, tmp_path, "s")
    (read,) = leaderboard.read(tmp_path)
    assert (read["box_ap"], read["mask_ap"]) == (0.25, 0.5) and "bbox_mAP" not in read
    assert json.loads(render(rows, "json"))[0]["bbox_mAP"] == 0.25
    assert "bbox_mAP,bbox_mAP_reference" in render(rows, "csv").splitlines()[0]


def test_conditions_take_either_name_and_answer_with_the_outer_one() -> None:
    condition = parse("bbox_mAP > 0.4")
    assert condition.met(row("a", box_ap=0.5)) and parse("box_ap > 0.4").column == "box_ap"
    assert condition.reason(row("a", box_ap=0.25)) == "has bbox_mAP 0.2500, expected over 0.4000"
