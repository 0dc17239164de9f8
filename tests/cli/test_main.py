"""The `farm` command: the arguments of each command, what it prints, and its exit code."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
from rows import row

import farm
from farm.cli import main as command_line
from farm.config.loader import load_matrix
from farm.plan import make_plan
from farm.results import leaderboard

COMMANDS = (
    "run", "pack", "run-pack", "import", "plan", "watch", "leaderboard", "best", "diff",
    "reproduce", "export", "build", "test", "models", "doctor",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *words: object) -> Done: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`farm WORDS` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("FARM_RESULTS", "FARM_STORE"):
        monkeypatch.delenv(name, raising=False)

    def call(*words: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["farm", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            command_line.main()
        return Done(int(end.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two sweeps of two models on two targets."""
    rows = [
        row("fast", model="a", box_ap=0.5, latency_p50_ms=5.0, box_ap_by_class='{"cat": 0.5}'),
        row("good", model="b", box_ap=0.6, latency_p50_ms=20.0, throughput_per_s=300.0),
        row("bad", model="a", status="failed", failed_stage="build", reason="no operator"),
    ]
    leaderboard.write(rows, tmp_path / "results", "s")
    raw = row(
        "raw", model="a", sweep="t", target="gpu", postprocess="none", box_ap=None,
        latency_p50_ms=1.0,
    )  # fmt: skip
    leaderboard.write([raw], tmp_path / "results", "t")
    return tmp_path / "results"


def parsed(*words: str) -> dict[str, Any]:
    return vars(command_line.make_parser().parse_args(words))


def test_without_a_command_help_is_printed_and_the_code_is_2(run: Run) -> None:
    done = run()
    assert done.code == 2 and all(f"\n    {name} " in done.out for name in COMMANDS)


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version") == Done(0, f"farm {farm.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_help(run: Run, name: str) -> None:
    done = run(name, "--help")
    assert done.code == 0 and done.out.startswith(f"usage: farm {name} ")


@pytest.mark.parametrize(
    "name", ["run", "plan", "leaderboard", "best", "diff", "reproduce", "doctor"]
)
def test_every_argument_has_a_help_text(name: str) -> None:
    (commands,) = command_line.make_parser()._subparsers._group_actions  # type: ignore[union-attr]
    command = commands.choices[name]  # type: ignore[index, call-overload]
    command.add_arguments()
    assert len(command._actions) > 2
    assert [one.dest for one in command._actions if not one.help] == []


@pytest.mark.parametrize(
    "words",
    [
        ["nonesuch"], ["plan"], ["reproduce"], ["export"], ["build"], ["test"],
        ["run", "m.yaml", "--executor", "none"], ["run", "m.yaml", "--nonesuch"],
        ["run", "m.yaml", "--step-minutes", "9"], ["run", "m.yaml", "--check-minutes", "9"],
        ["run-pack", "p", "--limit", "build"], ["run-pack", "p", "--limit", "build=0s"],
        ["run-pack", "p", "--limit", "bild=9s"], ["leaderboard", "--format", "xml"],
        ["leaderboard", "x"], ["best", "--target", "cpu", "--max-ap-drop", "-1"],
        ["best", "--target", "cpu", "--max-latency-ms", "nan"],
        ["best", "--target", "cpu", "--objective", "beauty"], ["doctor", "x"],
        ["best", "--min-ap", "101"], ["best", "--min-ap", "-1"], ["best", "--min-ap", "high"],
        ["best", "--sweep", "s", "--all-sweeps"],
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_exit_code_2_and_says_so(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert done.code == 2 and done.out == "" and "error: " in done.err


def test_defaults_are_those_of_the_documentation() -> None:
    found = parsed("run", "m.yaml", "opsets=[17]")
    expected = {
        "matrix": "m.yaml", "overrides": ["opsets=[17]"], "executor": "ray", "address": None,
        "retry_failed": False, "no_mlflow": False,
        "results": None,
    }  # fmt: skip
    assert expected.items() <= found.items()
    found = parsed("best", "--target", "cpu")
    expected = {
        "objective": "latency", "max_ap_drop": 0.5, "max_latency_ms": None, "model": None,
        "postprocess": None, "pareto": False, "json": False, "sweep": None, "all_sweeps": False,
        "min_ap": None, "confident": False, "where": [],
    }  # fmt: skip
    assert expected.items() <= found.items()
    assert parsed("leaderboard")["format"] == "table" and not parsed("leaderboard")["by_class"]


def test_overrides_may_follow_options(run: Run, small_matrix: Path) -> None:
    done = run("plan", small_matrix, "--json", "opsets=[11, 17]", "name=other")
    plan = json.loads(done.out)
    assert done.code == 0 and plan["name"] == "other" and len(plan["cells"]) == 2


def test_plan_prints_text_or_json_and_writes_nothing(
    run: Run, small_matrix: Path, tmp_path: Path
) -> None:
    done = run("plan", small_matrix)
    assert done.code == 0 and done.out.startswith("Matrix small: 1 cells, ")
    found = json.loads(run("plan", small_matrix, "--json").out)
    assert list(found["steps"]) == list(make_plan(load_matrix(small_matrix)).steps)
    assert not (tmp_path / "results").exists()


def test_a_wrong_matrix_is_exit_code_2_with_its_line(run: Run, small_matrix: Path) -> None:
    small_matrix.write_text(small_matrix.read_text().replace("opsets: [17]", "opsets: [99]"))
    for name in ("plan", "run"):
        done = run(name, small_matrix)
        assert done.code == 2 and done.out == ""
        assert done.err.startswith(f"farm: {small_matrix}:4: ") and "Traceback" not in done.err
    assert "Traceback" in run("plan", small_matrix, "-v").err
    assert run("plan", "nowhere.yaml").code == 2


def test_the_leaderboard_is_of_all_sweeps_or_of_those_asked_for(run: Run, results: Path) -> None:
    def cells(*words: str) -> list[str]:
        done = run("leaderboard", "--format", "csv", *words)
        assert done.code == 0
        return sorted(line["cell"] for line in csv.DictReader(io.StringIO(done.out)))

    assert cells() == ["bad", "fast", "good", "raw"]
    assert cells("--sweep", "s") == ["bad", "fast", "good"]
    assert cells("--target", "gpu") == ["raw"] == cells("--sweep", "t", "--target", "gpu")
    assert "no operator" in run("leaderboard").out
    assert {one["cell"] for one in json.loads(run("leaderboard", "--format", "json").out)} == {
        "bad", "fast", "good", "raw",
    }  # fmt: skip
    by_class = run("leaderboard", "--by-class", "--format", "csv").out.splitlines()
    assert [line.split(",")[1:4] for line in by_class[1:]] == [["fast", "cat", "0.5"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["leaderboard", "--sweep", "u"], "no sweep 'u'; expected one of: s, t"),
        (["leaderboard", "--target", "gpv"], "no target 'gpv'; did you mean 'gpu'?"),
        (["best", "--target", "cpu", "--model", "c"], "no model 'c'; expected one of: a, b"),
        (["reproduce", "fasd"], "no cell 'fasd'; did you mean 'fast'?"),
        (["leaderboard", "--results", "elsewhere"], "elsewhere"),
    ],
)
def test_what_is_not_in_the_results_is_exit_code_2_with_what_is(
    run: Run, results: Path, words: list[str], said: str
) -> None:
    done = run(*words)
    assert done.code == 2 and done.out == "" and said in done.err


def test_results_are_found_by_option_and_environment(
    run: Run, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.rename(tmp_path / "moved")
    assert run("leaderboard").code == 2
    assert run("leaderboard", "--results", "moved").code == 0
    monkeypatch.setenv("FARM_RESULTS", "moved")
    assert run("leaderboard").code == 0
