"""`farm best`: for which targets, models and sweeps it picks, what it prints, and its exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import Tool
from rows import row

from farm.results import leaderboard


@pytest.fixture(autouse=True)
def results(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of two models on a CPU, one of raw outputs on a GPU, and an older one on the CPU."""
    place = tmp_path / "results"
    monkeypatch.setenv("FARM_RESULTS", str(place))
    rows = [
        row("a.fast", model="a", box_ap=0.5, latency_p50_ms=5.0, engine_bytes=60_000_000),
        row("a.small", model="a", box_ap=0.5, latency_p50_ms=7.0, engine_bytes=40_000_000),
        row("b.good", model="b", box_ap=0.6, latency_p50_ms=20.0, throughput_per_s=300.0),
        row("a.bad", model="a", status="failed", failed_stage="build", reason="no operator"),
    ]
    for one in rows:
        one["sweep"] = "new"
    written(place, "new", rows, at=2000)
    raw = {"postprocess": "none", "box_ap": None, "latency_p50_ms": 1.0}
    written(place, "gpus", [row("a.raw", model="a", sweep="gpus", target="gpu", **raw)], at=3000)
    old = row("a.old", model="a", sweep="old", latency_p50_ms=1.0)
    written(place, "old", [old, row("c.old", model="c", sweep="old")], at=1000)
    return place


def written(place: Path, sweep: str, rows: list[dict[str, Any]], at: float) -> None:
    for path in leaderboard.write(rows, place, sweep):
        os.utime(path, (at, at))


def one(tool: Tool, *words: str) -> dict[str, Any]:
    done = tool("best", "--target", "cpu", "--json", *words)
    found: dict[str, Any] = json.loads(done.out)
    assert done.code == (0 if found["best"] else 1)
    return found


@pytest.mark.parametrize(
    ("words", "cell"),
    [
        (("--model", "a"), "a.fast"),
        (("--model", "b"), "b.good"),
        (("--model", "a", "--where", "engine_bytes < 50MB"), "a.small"),
        (("--model", "a", "--where", "engine_bytes < 50MB", "--where", "cell = *fast"), None),
        (("--model", "a", "--max-latency-ms", "5"), "a.fast"),
        (("--model", "a", "--max-latency-ms", "4.9"), None),
        (("--model", "a", "--min-ap", "0.5"), "a.fast"),
        (("--model", "a", "--min-ap", "50"), "a.fast"),
        (("--model", "a", "--min-ap", "50.1"), None),
        (("--model", "a", "--objective", "ap", "--max-latency-ms", "7"), "a.fast"),
        (("--model", "a", "--sweep", "old"), "a.old"),
        (("--model", "a", "--all-sweeps"), "a.old"),
        (("--model", "c"), "c.old"),  # of the last sweep that has the model
    ],
)
def test_a_pick_is_by_what_is_asked_for(
    tool: Tool, words: tuple[str, ...], cell: str | None
) -> None:
    found = one(tool, *words)
    assert (found["best"] or {}).get("cell") == cell
    text = tool("best", "--target", "cpu", *words)
    assert text.code == (0 if cell else 1)
    assert text.out.startswith(f"Ship {cell}" if cell else "No engine to ship: none of 3 cells")


def test_the_object_of_one_target_and_model_has_these_keys(tool: Tool) -> None:
    found = one(tool, "--model", "a", "--max-latency-ms", "4")
    assert found == {
        "target": "cpu", "model": "a", "sweeps": ["new"], "best": None, "ties": [], "files": {},
        "doubt": "",
        "why": "none of 3 cells meets the criteria",
        "left_out": {
            "a.fast": "takes 5.00 ms, at most 4.00 ms", "a.small": "takes 7.00 ms, at most 4.00 ms",
            "a.bad": "failed: no operator",
        },
        "obstacles": [{
            "constraint": "--max-latency-ms 4", "missed": 2, "cell": "a.fast", "missed_by": 1.0,
            "reason": "the fastest takes 5.00 ms, 1.00 ms over", "left": 2,
        }],
    }  # fmt: skip


def test_without_a_model_every_model_of_every_target_has_a_pick(tool: Tool) -> None:
    done = tool("best", "--json")
    assert done.code == 1  # the GPU has raw outputs alone
    cpu, gpu = json.loads(done.out)["targets"]
    assert (cpu["target"], cpu["sweeps"], gpu["target"], gpu["sweeps"]) == (
        "cpu", ["new"], "gpu", ["gpus"],
    )  # fmt: skip
    picks = {one["model"]: one["best"] and one["best"]["cell"] for one in cpu["picks"]}
    assert picks == {"a": "a.fast", "b": "b.good"}
    assert [one["cell"] for one in cpu["front"]] == ["a.fast", "b.good"]
    assert gpu["front"] == [] and gpu["picks"][0]["best"] is None
    for words in (("--target", "cpu"), ("--model", "a")):
        shape = json.loads(tool("best", "--json", *words).out)
        assert list(shape) == ["targets"]
    raw = tool("best", "--postprocess", "none", "--target", "gpu")
    assert raw.code == 0 and raw.out.startswith("Ship a.raw")


def test_the_text_for_several_models_has_the_front_and_each_pick(tool: Tool) -> None:
    done = tool("best", "--target", "cpu")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[:8] == [
        "Target cpu, sweep new: 2 models",
        "Sweep new was written last; sweep old also has this target (--sweep,",
        "  --all-sweeps).",
        "",
        "Pareto front of AP and latency over 3 eligible cells of all models:",
        "model  runtime      shape  box AP  p50 ms  x time  AP points",
        "-----  -----------  -----  ------  ------  ------  ---------",
        "a      onnxruntime  fixed  0.5000    5.00    1.00      +0.00",
    ]
    assert lines[8] == "b      onnxruntime  fixed  0.6000   20.00    4.00     +10.00"
    assert [line for line in lines if line.startswith("Ship")] == ["Ship a.fast", "Ship b.good"]
    assert max(map(len, lines)) <= 80
    some = tool("best", "--target", "cpu", "--max-latency-ms", "10")
    assert some.code == 0 and "No engine of b to ship: none of 1 cells meets" in some.out
    every = tool("best")
    assert every.code == 1 and "\n\nTarget gpu, sweep gpus: 1 model\n\nNo engine of a" in every.out


def test_the_front_is_one_over_several_models(tool: Tool) -> None:
    done = tool("best", "--model", "a")
    assert "Target cpu, sweep new: 1 model\n" in done.out and "Ship a.fast" in done.out
    assert "Pareto" not in done.out


def test_one_sweep_or_all_are_asked_for_without_a_note(tool: Tool) -> None:
    for words in (("--sweep", "new"), ("--all-sweeps",)):
        done = tool("best", "--target", "cpu", "--model", "a", *words)
        assert done.code == 0 and "written last" not in done.out
    assert "  sweep   old" in done.out
    note = "Sweep new was written last; sweep old also has this target"
    assert note in tool("best", "--target", "cpu", "--model", "a").out


def test_cells_that_have_not_run_are_counted(tool: Tool, results: Path) -> None:
    later = {"status": "pending", "reason": "measure has not run", "latency_p50_ms": None}
    rows = [row("a.x", model="a", sweep="new"), row("a.y", model="a", sweep="new", **later)]
    written(results, "new", rows, at=2000)
    assert "\n1 cell has not run yet." in tool("best", "--target", "cpu", "--model", "a").out
    rows.append({**rows[1], "cell": "a.z"})
    written(results, "new", rows, at=2000)
    assert "\n2 cells have not run yet." in tool("best", "--target", "cpu", "--model", "a").out


def test_the_front_is_shown_by_target(tool: Tool) -> None:
    found = tool("best", "--target", "cpu", "--pareto", "--json")
    assert [one["cell"] for one in json.loads(found.out)] == ["a.fast", "b.good"]
    done = tool("best", "--pareto")
    assert done.code == 1 and done.out.startswith("Leaderboard of sweep new, target cpu")
    assert "0.6000" in done.out and "no operator" not in done.out
    assert "Target gpu" not in done.out and "No engine to ship: none of 1 cells" in done.out
    none = tool("best", "--target", "gpu", "--pareto")
    assert none.code == 1 and none.out.startswith("No engine to ship")


def test_conditions_on_model_target_and_sweep_select_what_is_picked_for(tool: Tool) -> None:
    found = json.loads(tool("best", "--json", "--where", "model = a", "--where", "target=cpu").out)
    assert [[one["model"] for one in each["picks"]] for each in found["targets"]] == [["a"]]
    done = tool("best", "--where", "sweep = old", "--where", "model != a")
    assert done.code == 0 and done.out.startswith("Ship c.old")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "cpv"), "no target 'cpv'; did you mean 'cpu'?"),
        (("--model", "x"), "farm: --model: no model 'x'; expected one of: a, b, c"),
        (("--sweep", "newer"), "no sweep 'newer'; did you mean 'new'?"),
        (("--where", "engine_bytes"), "farm: --where: 'engine_bytes' is no condition"),
        (("--where", "engine_byte < 5"), "no column 'engine_byte'; did you mean"),
        (("--where", "model = x"), "farm: --where 'model = x': no cell is so; expected one of"),
        (("--min-ap", "140"), "'140' is no AP; expected 0 to 1 as in the leaderboard (0.40)"),
    ],
)
def test_wrong_options_end_with_2(tool: Tool, words: tuple[str, ...], said: str) -> None:
    done = tool("best", *words)
    assert done.code == 2 and done.out == "" and said in done.err
