"""`farm leaderboard`: the cells and columns that are asked for, in each format."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from conftest import Tool
from rows import row

from farm.results import leaderboard


@pytest.fixture(autouse=True)
def results(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sweeps on two targets, where the commands look for results."""
    place = tmp_path / "results"
    monkeypatch.setenv("FARM_RESULTS", str(place))
    rows = [
        row("fast", box_ap=0.5, latency_p50_ms=5.0, engine_bytes=60_000_000, opset=17),
        row("good", box_ap=0.6, latency_p50_ms=20.0, engine_bytes=40_000_000),
        row("bad", box_ap=None, status="failed", failed_stage="build", reason="no operator"),
    ]
    leaderboard.write(rows, place, "s")
    leaderboard.write([row("other", sweep="t", target="gpu", latency_p50_ms=1.0)], place, "t")
    return place


def cells(tool: Tool, *words: str) -> list[str]:
    found = []
    for form in ("json", "csv"):
        done = tool("leaderboard", "--format", form, *words)
        assert done.code == 0
        rows = json.loads(done.out) if form == "json" else csv.DictReader(io.StringIO(done.out))
        found.append([one["cell"] for one in rows])
    assert found[0] == found[1]
    return found[0]


def test_only_cells_that_meet_every_condition_are_shown(tool: Tool) -> None:
    assert cells(tool, "--where", "latency_p50_ms < 10ms") == ["fast", "other"]
    both = ("--where", "latency_p50_ms < 10ms", "--where", "engine_bytes > 50MB")
    assert cells(tool, *both) == ["fast"]
    assert cells(tool, *both, "--where", "target = gpu") == []
    for form in ("table", "markdown"):
        done = tool("leaderboard", "--format", form, *both)
        assert "0.5000" in done.out and "0.6000" not in done.out and "no operator" not in done.out


def test_cells_are_sorted_by_columns_and_those_without_a_value_come_last(tool: Tool) -> None:
    assert cells(tool, "--sort", "box_ap,latency_p50_ms") == ["other", "fast", "good", "bad"]
    assert cells(tool, "--sort=-box_ap,-latency_p50_ms") == ["good", "fast", "other", "bad"]
    assert cells(tool, "--sort", "engine_bytes", "--top", "2") == ["good", "fast"]


def test_a_sorted_table_is_one_for_all_targets(tool: Tool) -> None:
    lines = tool("leaderboard", "--sort", "latency_p50_ms").out.splitlines()
    assert lines[0].split()[:4] == ["target", "sweep", "model", "runtime"]
    assert [line.split()[0] for line in lines[2:5]] == ["gpu", "cpu", "cpu"]
    assert lines[-2:] == ["failed at build: bad", "  no operator"]
    alone = tool("leaderboard", "--sort", "latency_p50_ms", "--target", "gpu").out
    assert alone.startswith("model  runtime")


def test_the_columns_that_are_asked_for_are_shown_in_their_order(tool: Tool) -> None:
    words = ("leaderboard", "--columns", "engine_bytes,cell,stable", "--where", "opset = 17")
    assert tool(*words).out.splitlines() == [
        "engine_bytes  cell  stable", "------------  ----  ------", "    60000000  fast  True",
    ]  # fmt: skip
    assert tool(*words, "--format", "markdown").out.splitlines()[0] == (
        "| engine_bytes | cell | stable |"
    )
    assert tool(*words, "--format", "csv").out == "engine_bytes,cell,stable\n60000000,fast,True\n"
    assert json.loads(tool(*words, "--format", "json").out) == [
        {"engine_bytes": 60_000_000, "cell": "fast", "stable": True}
    ]


def test_the_first_cells_alone_are_shown(tool: Tool) -> None:
    assert cells(tool, "--top", "1") == ["fast"]
    out = tool("leaderboard", "--top", "1").out
    assert out.startswith("Leaderboard of sweep s, target cpu") and "0.6000" not in out


def test_a_rank_is_shared_with_cells_that_are_not_shown(tool: Tool, results: Path) -> None:
    rows = [row(name, rank=1, opset=n, compare_key="0" * 64) for n, name in enumerate("ab")]
    leaderboard.write(rows, results, "s")
    for words in (("--top", "1"), ("--where", "opset = 1"), ("--sort", "opset", "--top", "1")):
        for form in ("table", "markdown"):
            done = tool("leaderboard", "--target", "cpu", "--format", form, *words)
            assert "1=" in done.out and "= cells of this rank" in done.out
    assert "1=" in tool("best", "--target", "cpu", "--pareto").out


def test_no_such_cell_is_said_and_is_an_empty_list_for_programs(tool: Tool) -> None:
    none = ("leaderboard", "--where", "latency_p50_ms < 1ms", "--where", "runtime=onxruntime")
    for form in ("table", "markdown"):
        done = tool(*none, "--format", form)
        assert done.code == 0 and done.out.splitlines() == [
            "None of 4 cells meets the conditions.",
            "  --where 'latency_p50_ms < 1ms': the fastest has latency_p50_ms 1.00 ms, expected"
            " under 1.00 ms; 4 cells do not meet it",
            "  --where 'runtime=onxruntime': no runtime 'onxruntime'; did you mean 'onnxruntime'?"
            " 4 cells do not meet it",
        ]
    bad = tool(*none[:3], "--where", "cell = bad").out
    assert "has latency_p50_ms 10.00 ms, 9.00 ms over; 4 cells" in bad
    assert json.loads(tool(*none, "--format", "json").out) == []
    assert tool(*none, "--format", "csv").out.startswith("cell,")
    assert tool(*none, "--format", "csv", "--columns", "model,cell").out == "model,cell\n"


def test_classes_are_those_of_the_cells_that_are_asked_for(tool: Tool, results: Path) -> None:
    rows = [row(name, box_ap_by_class=f'{{"{name}": 0.5}}', opset=n) for n, name in enumerate("ab")]
    leaderboard.write(rows, results, "s")
    done = tool("leaderboard", "--by-class", "--format", "csv", "--where", "opset = 1")
    assert [line.split(",")[2] for line in done.out.splitlines()] == ["class", "b"]
    for words in (("--sort", "cell"), ("--columns", "cell"), ("--top", "1")):
        done = tool("leaderboard", "--by-class", *words)
        assert done.code == 2 and done.err.startswith("farm: --by-class: --sort, --columns")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--where", "bytes"), "farm: --where: 'bytes' is no condition"),
        (("--sort", "engine_byte"), "farm: --sort: no column 'engine_byte'; did you mean one of"),
        (("--sort", "-"), "farm: --sort: no column ''; expected one of"),
        (("--columns", "cell,,model"), "farm: --columns: expected names of columns with commas"),
        (("--columns", "sel"), "farm: --columns: no column 'sel'"),
        (("--top", "0"), "'0' is no number of cells; expected 1 or more"),
        (("--top", "x"), "'x' is no number of cells; expected 1 or more"),
    ],
)
def test_wrong_options_end_with_2(tool: Tool, words: tuple[str, ...], said: str) -> None:
    done = tool("leaderboard", *words)
    assert done.code == 2 and done.out == "" and said in done.err
