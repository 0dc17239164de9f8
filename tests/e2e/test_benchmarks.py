"""The benchmarks run: what they print is for people, and nothing here depends on the time taken."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

pytestmark = pytest.mark.slow


def run(name: str, *words: str, may_miss: bool = False) -> str:
    command = [sys.executable, "-W", "ignore", str(PROJECT / "benchmarks" / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or (may_miss and "MISSED" in done.stdout), done.stdout + done.stderr
    return done.stdout


def test_an_export_has_its_seconds_memory_and_nodes_beside_the_naive_ones() -> None:
    head, line = run("export.py", "--family", "retinanet").splitlines()
    assert head.split() == ["model", "export", "s", "peak", "MiB", "before", "nodes", "raw"]
    name, seconds, peak, before, nodes, raw, _ = line.split()
    assert name == "retinanet" and float(seconds) > 0 and float(peak) > float(before) > 100
    assert 500 < int(nodes) < int(raw)


def test_precisions_stand_beside_fp32_on_both_runtimes(tmp_path: object) -> None:
    words = ("--only", "yolox", "--size", "128", "--rounds", "2")
    out = run("precision.py", *words, "--results", str(tmp_path))
    lines = json.loads(out.splitlines()[-1])
    found = {(line["runtime"], line["precision"]) for line in lines}
    assert len(lines) == len(found) == 8 and {name for name, _ in found} == {
        "onnxruntime",
        "openvino",
    }
    assert all(line["over_fp32"] == 1 for line in lines if line["precision"] == "fp32")
    assert all(line["p50_ms"] > 0 and line["onnx_bytes"] > 1e6 for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "nosuch"), "--only: no family 'nosuch'"),
        (("--nncf", "resnet50", "--weights", "nosuch.pth"), "`python tools/train_demo.py "),
    ],
)
def test_a_model_or_weights_that_are_not_there_are_named(words: tuple[str, ...], said: str) -> None:
    command = [sys.executable, str(PROJECT / "benchmarks" / "precision.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_farms_own_cost_stands_beside_its_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a goal is met is for a quiet machine to say; here each figure is there."""
    monkeypatch.syspath_prepend(PROJECT / "benchmarks")
    import overhead

    monkeypatch.setattr(overhead, "MANY", 1000)
    names = [figure.name for figure in overhead.driver(tmp_path, 1)]
    assert names == [
        "driver's CPU a step, of 100",
        "driver's CPU a step, of 1000",
        "driver's CPU a step, of very many over few",
    ]
    first, median = overhead.worker(tmp_path, 1)
    assert 0 < median.value < first.value and str(median).endswith(("met", "MISSED"))


def test_the_use_of_a_cluster_stands_beside_its_goals() -> None:
    """No order of steps beats its bound, by a counted clock or on nodes."""
    pytest.importorskip("ray")
    words = ["--models", "1", "--scale", "0.1", "--cores", "1", "--nodes", "4"]
    words += ["--only", "order", "nodes", "joins", "schedule"]
    out = run("cluster.py", *words, may_miss=True)
    lines = [line for line in out.splitlines() if not line.startswith("  ")]
    figures = (re.match(r"(.*\S)\s+([\d.]+) .*\(<= ", line) for line in lines)
    found = {figure[1]: float(figure[2]) for figure in figures if figure}
    assert list(found) == [
        "15 steps by a virtual clock over their bound",
        "15 steps by a virtual clock over their bound, nothing known before",
        "driver's CPU a step, on 4 nodes",
        "a node that joins, to its first step",
        "a sweep of 15 steps over its bound",
    ]
    assert found["15 steps by a virtual clock over their bound"] >= 1
    assert found["a sweep of 15 steps over its bound"] > 1
    assert min(found.values()) > 0


def test_intervals_of_a_drop_are_held_against_real_images(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCO_MINI", str(shared / "coco-mini"))
    monkeypatch.setenv("CHECKPOINTS", str(shared / "checkpoints"))
    words = ("--trials", "3", "--sizes", "33", "--results", str(tmp_path))
    lines = run("trust_ap.py", *words, may_miss=True).splitlines()
    of_ap, of_intervals = lines[1:7], lines[9:-1]
    assert [line.split()[:2] for line in of_ap] == [line.split()[:2] for line in of_intervals]
    assert not any(line.endswith("MISSED") for line in of_ap)
    assert re.match(r"all +[\d.]+%  \(goal 93%\)", lines[-1])


def test_a_slow_tracker_stands_beside_a_quick_one() -> None:
    words = ("--cells", "4", "--rounds", "1", "--executor", "inline")
    *sweeps, last = run("tracker.py", *words, may_miss=True).splitlines()
    found = [re.fullmatch(r"(\d) s a call: .* s, then .* s; (\d+) calls", one) for one in sweeps]
    assert [one[1] for one in found if one] == ["0", "1"]
    assert all(int(one[2]) > 4 for one in found if one)  # each sweep has told the server
    assert re.fullmatch(r"4 cells: .* s -> .* s, [\d.]+ times: (met|MISSED)", last)


def test_ranks_are_held_against_known_answers() -> None:
    lines = run("trust.py", "--checks", "pick", "--repeats", "8").splitlines()
    assert "8 of 8" in lines[2] and lines[2].rstrip().endswith("met")
    words = ("--checks", "turns", "aa", "slower", "--pairs", "1", "--seconds", "1")
    lines = run("trust.py", *words, may_miss=True).splitlines()
    assert "engines in turn / alone" in lines[2] and "openvino" in lines[2]
    assert "of 1; by the rule before" in lines[3] and "of 1, in at most" in lines[4]
