"""`farm diff`: what it reads, prints and ends with; verdicts are in tests/results/test_diff.py."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Done, Tool
from rows import row

from farm.results import leaderboard
from farm.results.kept import history
from farm.specs import Cell

RELEASES = ("runtime=openvino", "runtime=openvino@2025.2")


def cell(**values: Any) -> dict[str, Any]:
    made = row("", **{"opset": 17, "latency_cov": 0.01, "samples": 100, **values})
    return made | {"cell": Cell(**{name: made[name] for name in Cell.__annotations__}).id}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Sweep `s`: two releases of a runtime and three models; `t`: the first one again, slower."""
    reason = {"status": "failed", "failed_stage": "build", "reason": "no | operator\x1b[1m"}
    rows = [
        cell(model="a", runtime="openvino", matched_fraction=1.0, threads=2),
        cell(model="a", runtime="openvino@2025.2", matched_fraction=0.995, threads=4),
        cell(model="b", runtime="openvino", box_ap=0.5, mask_ap=0.3),
        cell(model="b", runtime="openvino@2025.2", box_ap=0.49, mask_ap=0.3, latency_p50_ms=5.0),
        cell(model="c", runtime="openvino"),
        cell(model="c", runtime="openvino@2025.2", box_ap=None, latency_p50_ms=None, **reason),
    ]
    leaderboard.write(rows, tmp_path, "s")
    again = [cell(model="a", runtime="openvino", sweep="t", latency_p50_ms=12.0)]
    leaderboard.write(again, tmp_path, "t")
    return tmp_path


@pytest.fixture
def run(results: Path, tool: Tool) -> Tool:
    def call(*words: object) -> Done:
        return tool("diff", *words, "--results", results)

    return call


TABLE = """\
model  A   B       box AP  mask AP  match A  match B  ms B/A  noise   verdict
-----  --  ------  ------  -------  -------  -------  ------  ------  -------
a      ok  ok      +0.000        -    1.000    0.995    1.00  within  same
b      ok  ok      -1.000   +0.000        -        -    0.50  beyond  worse
c      ok  failed       -        -        -        -       -  -       broke

3 cells: 1 same, 1 worse, 1 broke
A: runtime=openvino
B: runtime=openvino@2025.2; AP is B's minus A's, in points of 100
worse than its bound in box AP: b.op17.fixed.fp32.openvino@2025.2.cpu
broke at build: no | operator\\x1b[1m: c.op17.fixed.fp32.openvino@2025.2.cpu
not alike in 1 cells, which may be why they differ: threads
"""


def test_the_table_is_of_80_columns_and_says_why(run: Tool) -> None:
    done = run(*RELEASES, "--sweep", "s", "--max-ap-drop", "0.9")
    assert (done.code, done.out, done.err) == (1, TABLE, "")
    assert max(map(len, TABLE.splitlines())) <= 80


def test_markdown_is_the_same_table_and_escaped(run: Tool) -> None:
    lines = run(*RELEASES, "--sweep", "s", "--format", "markdown").out.splitlines()
    assert lines[0].startswith("| model | A | B | box AP |") and lines[1] == "|" + "---|" * 10
    assert lines[3].endswith("| 0.50 | beyond | worse |")
    assert "no \\| operator\\\\x1b\\[1m" in lines[-2]


def test_json_and_csv_have_every_figure_of_both(run: Tool) -> None:
    words = (*RELEASES, "--sweep", "s", "--max-ap-drop", "0.9", "--format")
    made, other = run(*words, "json"), run(*words, "csv")
    found = json.loads(made.out)
    assert made.code == other.code == 1
    lines = list(csv.DictReader(io.StringIO(other.out)))
    assert [[*one] for one in found] == [[*one] for one in lines]
    assert [one["verdict"] for one in found] == [one["verdict"] for one in lines]
    assert {
        "sweep": "s", "model": "b", "verdict": "worse", "bbox_mAP_gain": -1.0, "segm_mAP_gain": 0.0,
        "latency_ratio": 0.5, "noise": "beyond", "exceeds": "box AP", "unlike": "",
        "bbox_mAP_a": 0.5, "bbox_mAP_b": 0.49, "status_a": "ok", "samples_b": 100,
        "cell_b": "b.op17.fixed.fp32.openvino@2025.2.cpu",
    }.items() <= found[1].items()  # fmt: skip
    assert found[2]["failed_stage_b"] == "build" and found[2]["noise"] is None
    assert "runtime" not in found[0] and found[0]["unlike"] == "threads"


@pytest.mark.parametrize(
    ("words", "code", "verdicts"),
    [
        (["s,runtime=openvino,model=a", "t"], 0, ["worse"]),
        (["s,runtime=openvino,model=a", "t", "--max-slowdown", "20"], 0, ["worse"]),
        (["s,runtime=openvino,model=a", "t", "--max-slowdown", "19"], 1, ["worse"]),
        (["s,runtime=openvino,model=a", "t", "--max-ap-drop", "0"], 0, ["worse"]),
        (["t", "s,model=a,runtime=openvino", "--max-slowdown", "0"], 0, ["better"]),
        (["t", "s,runtime=openvino"], 0, ["better", "appeared", "appeared"]),
        (["s,runtime=openvino", "t"], 1, ["worse", "vanished", "vanished"]),
        (["model=c,runtime=openvino@2025.2", "model=c,runtime=openvino"], 0, ["mended"]),
        (["model=b,runtime=openvino", "model=b,runtime=openvino@2025.2"], 0, ["worse"]),
        ([*RELEASES], 1, ["same", "worse", "broke", "vanished"]),
    ],
)
def test_the_exit_code_is_1_for_what_is_lost_or_beyond_a_bound(
    run: Tool, words: list[str], code: int, verdicts: list[str]
) -> None:
    done = run(*words, "--format", "json")
    assert (done.code, [one["verdict"] for one in json.loads(done.out)]) == (code, verdicts)


def test_a_reason_is_said_once(tmp_path: Path, tool: Tool) -> None:
    reason = {"status": "failed", "failed_stage": "build", "reason": "no operator"}
    for sweep, values in (("s", {}), ("t", reason)):
        rows = [cell(sweep=sweep, shape=shape, **values) for shape in ("x", "y", "z")]
        leaderboard.write(rows, tmp_path, sweep)
    lines = tool("diff", "s", "t", "--results", tmp_path).out.splitlines()
    assert lines[-1] == "broke at build: no operator: m.op17.x.fp32.onnxruntime.cpu and 2 more"


def test_one_pair_is_named_by_its_model(run: Tool) -> None:
    lines = run("t", "t").out.splitlines()
    assert lines[0].startswith("model  A ") and lines[2].startswith("a      ok")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["u", "t"], "farm: u: no sweep 'u'; expected one of: s, t"),
        (["s", "runtime=openvimo"], "runtime=openvimo: no runtime 'openvimo'; did you mean 'openv"),
        (["s", "t", "--sweep", "s"], "farm: t: no sweep 't'; expected one of: s"),
        (["s", "t", "--sweep", "tt"], "no sweep 'tt'"),
        (["s", "model=a"], "s: it selects 3 rows to compare as one (first a.op17.fixed."),
        (["s"], "required: B"),
        (["s", "t", "--max-ap-drop", "-1"], "argument --max-ap-drop: invalid"),
        (["s", "t", "--max-slowdown", "nan"], "argument --max-slowdown: invalid"),
        (["s", "t", "--format", "xml"], "argument --format: invalid"),
    ],
)
def test_wrong_input_is_exit_code_2_with_the_nearest_name(
    run: Tool, words: list[str], said: str
) -> None:
    done = run(*words)
    assert done.code == 2 and done.out == "" and said in done.err


def test_the_help_says_what_noise_is(tool: Tool) -> None:
    done = tool("diff", "--help")
    assert done.code == 0 and "(1 + 2 a) x (1 + 2 b)" in " ".join(done.out.split())


def test_a_sweep_is_compared_with_what_it_was_before_it_was_run_again(
    run: Tool, results: Path
) -> None:
    for latency in (40.0, 5.0):  # of two earlier runs the last one counts
        history.keep([cell(model="a", runtime="openvino", latency_p50_ms=latency)], results, "s")
    gone = cell(model="z", runtime="openvino")
    history.keep([gone], results, "s")
    done = run("s,earlier", "s", "--max-slowdown", "50", "--format", "json")
    found = {one["cell_a"] or one["cell_b"]: one for one in json.loads(done.out)}
    slower = found["a.op17.fixed.fp32.openvino.cpu"]
    assert done.code == 1 and len(found) == 7
    assert (slower["latency_ratio"], slower["verdict"]) == (2.0, "worse")
    assert slower["exceeds"] == "latency"
    assert found[gone["cell"]]["verdict"] == "vanished"
    assert {one["verdict"] for one in found.values()} == {"same", "worse", "vanished"}
    assert run("s,earlier", "s,earlier").code == 0
