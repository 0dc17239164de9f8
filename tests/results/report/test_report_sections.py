"""What the report says of a target: picks, table, commands, failures with logs, conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_cases import many
from rows import row

from farm.results.report.conditions import conditions
from farm.results.report.failures import failures
from farm.results.report.sections import section
from farm.specs import Ref
from farm.store import Failure, Store

KEY = "a" * 64


def failed(cell: str, **values: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "status": "failed",
        "failed_stage": "build",
        "reason": "no kernel",
        "build_key": KEY,
    }
    return row(cell) | own | dict.fromkeys(("box_ap", "latency_p50_ms")) | values


def test_the_table_is_that_of_farm_leaderboard(tmp_path: Path) -> None:
    rows = [
        row("slow", latency_p50_ms=20.0, rank=2, compare_key="k"),
        row("fast", latency_p50_ms=5.0, rank=1, compare_key="k", stable=False, runtime="openvino"),
        row("tied", latency_p50_ms=5.1, rank=1, compare_key="k"),
    ]
    found = section(rows, Store(tmp_path), None)
    texts = {
        line.cell: dict(zip((one.name for one in found.headings), line.texts, strict=True))
        for line in found.lines
    }
    assert [line.cell for line in found.lines] == ["fast", "tied", "slow"]
    assert texts["fast"]["rank"] == texts["tied"]["rank"] == "1="
    assert texts["fast"]["latency_p50_ms"] == "5.00~" and texts["slow"]["runtime"] == "onnxruntime"
    assert len(found.legend) == 2
    assert [line.cell for line in found.lines if line.on_front] == ["fast"]
    assert found.choices[0].cell == "tied" and "cannot be told apart" in found.choices[0].why


def test_a_section_names_its_device_its_sweeps_and_how_many_cells_ended_how(tmp_path: Path) -> None:
    rows = [row("a", device=None, sweep="t", opset=11), failed("b", device="a GPU"), failed("c")]
    found = section(rows, Store(tmp_path), None, ["other"])
    assert (found.target, found.device, found.sweeps) == ("cpu", "a GPU", ("s", "t"))
    assert found.others == ("other",) and found.counts == {"ok": 1, "failed": 2}
    numeric = {one.name: one.numeric for one in found.headings}
    assert numeric["latency_p50_ms"] and numeric["opset"]
    assert not numeric["status"] and not numeric["runtime"]
    nothing = section([failed("b", device=None)], Store(tmp_path), None)
    assert nothing.device == "" and nothing.legend == ()
    assert [(one.model, one.cell) for one in nothing.choices] == [("m", "")]
    assert nothing.data["kinds"] == {}


def test_details_have_six_digits_and_no_column_that_no_cell_has(tmp_path: Path) -> None:
    rows = [
        row("a", latency_p50_ms=1.23456789, mask_ap=0.25, reason="a\nb\x1b"),
        row("b", stable=False),
    ]
    data = section(rows, Store(tmp_path), None).data
    values = [dict(zip(data["columns"], one, strict=True)) for one in data["values"]]
    assert (values[0]["latency_p50_ms"], values[0]["reason"]) == (1.23457, "a\nb\\x1b")
    assert (values[1]["stable"], values[1]["threads"], values[1]["segm_mAP"]) == (False, 2, None)
    assert not {"rank", "cell", "device", "target"} & set(data["columns"])
    assert dict(zip(data["columns"], data["units"], strict=True))["latency_p50_ms"] == "ms"
    assert set(data["kinds"]) == {"box", "mask"} and data["axes"] == ["model"]
    assert data["filters"] == {"model": ["m", "m"], "status": ["ok", "ok"]}


def test_each_cell_has_the_command_that_runs_it_again(tmp_path: Path) -> None:
    (line,) = section([row("a b", sweep="s t")], Store(tmp_path), "my results").lines
    assert line.command == "farm reproduce 'a b' --sweep 's t' --results 'my results'"
    (line,) = section([row("a", sweep="s")], Store(tmp_path), None).lines
    assert line.command == "farm reproduce a --sweep s"


def test_data_of_the_page_are_json_with_a_value_for_each_row(tmp_path: Path) -> None:
    rows = many(60)
    data = json.loads(json.dumps(section(rows, Store(tmp_path), None).data, allow_nan=False))
    assert len(data["values"]) == 60 and len(data["kinds"]["box"]) == 59
    assert all(len(one) == len(data["columns"]) == len(data["units"]) for one in data["values"])
    assert set(data["filters"]) == {"model", "runtime", "precision", "opset", "status"}
    assert {"latency_p50_ms", "bbox_mAP_drop_low", "reason"} <= set(data["columns"])
    assert not [name for name in data["columns"] if name.endswith("_key")]


def test_a_failure_is_told_once_with_its_cells_and_the_end_of_its_log(tmp_path: Path) -> None:
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    log.write_text("first line\n" + "x" * 9000 + "\nthe last \x1b[31mwords\n")
    store.record_failure(Failure("build", KEY, "a", "no kernel", "UNSUPPORTED"), log)
    rows = [failed("a"), row("ok"), failed("b"), failed("c", reason="another", build_key=None)]
    first, second = failures(rows, store)
    assert (first.title, first.reason, first.cells) == ("failed at build", "no kernel", ("a", "b"))
    assert first.log.endswith("the last \\x1b[31mwords") and "first" not in first.log
    assert len(first.log) < 6100
    assert (second.cells, second.log) == (("c",), "")


def test_a_log_of_another_machine_or_that_is_gone_is_left_out(tmp_path: Path) -> None:
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    log.write_text("words")
    store.record_failure(Failure("build", KEY, "a", "no kernel", "UNSUPPORTED"), log)
    assert failures([failed("a")], store)[0].log == "words"
    assert failures([failed("a", origin="abcd import")], store)[0].log == ""
    store.log_path(Ref("build", KEY)).unlink()
    assert failures([failed("a")], store)[0].log == ""


@pytest.mark.parametrize(("size", "cut"), [(6000, False), (6001, True)])
def test_of_a_long_log_the_last_lines_are_shown(size: int, cut: bool, tmp_path: Path) -> None:
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    log.write_text("first\n" + "x" * (size - 6))
    store.record_failure(Failure("build", KEY, "a", "no kernel", "UNSUPPORTED"), log)
    shown = failures([failed("a")], store)[0].log
    assert shown == ("... " if cut else "first\n") + "x" * (size - 6)


def test_so_many_logs_are_in_a_page_and_no_more(tmp_path: Path) -> None:
    store, log = Store(tmp_path / "store"), tmp_path / "log"
    log.write_text("words")
    store.record_failure(Failure("build", KEY, "a", "no kernel", "UNSUPPORTED"), log)
    found = failures([failed("a", reason=f"{number}") for number in range(42)], store)
    assert [one.log for one in found] == ["words"] * 40 + [""] * 2


@pytest.mark.parametrize(("count", "more"), [(11, ""), (12, ""), (13, ", and 1 more")])
def test_a_dozen_values_are_named(count: int, more: str) -> None:
    found = {
        one.name: one.value for one in conditions([row("a", device=f"{n}") for n in range(count)])
    }
    assert found["device"] == ", ".join(map(str, range(min(count, 12)))) + more


def test_how_it_was_measured_has_what_rows_differ_in_and_nothing_that_they_lack() -> None:
    rows = [
        row("a", device="cpu \x1b", threads=2, samples=50, measured_at="2026-11-02T10:00:00Z"),
        row("b", device="cpu \x1b", threads=4, samples=90, measured_at="2026-11-01T10:00:00Z",
            runtime="openvino", runtime_version="2026.4", toolchain="b 2; a 1"),
        row("c", device="cpu \x1b", toolchain="a 1; c 3"),
    ]  # fmt: skip
    found = {one.name: one.value for one in conditions(rows)}
    assert found == {
        "measured (UTC)": "2026-11-01T10:00:00Z to 2026-11-02T10:00:00Z",
        "device": "cpu \\x1b",
        "threads of an engine": "2, 4",
        "latencies of an engine": "50 to 90",
        "openvino": "2026.4",
        "packages": "a 1, b 2, c 3",
    }
    alone = {one.name: one.value for one in conditions(rows[:1])}
    assert alone["measured (UTC)"] == "2026-11-02T10:00:00Z"
    assert alone["latencies of an engine"] == "50" and "packages" not in alone
