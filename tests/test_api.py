"""The farm as a Python library: the same results as the commands, with types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import PROJECT
from rows import row

import farm
from farm import api
from farm.errors import InputError
from farm.results import leaderboard


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = [
        row("fast", model="a", box_ap=0.5, latency_p50_ms=5.0, engine_bytes=3),
        row("good", model="b", box_ap=0.6, latency_p50_ms=20.0),
        row("bad", model="a", status="failed", failed_stage="build", reason="no operator"),
    ]
    leaderboard.write(rows, tmp_path / "results", "s")
    return tmp_path / "results"


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_leaderboard_is_a_data_frame_whose_columns_have_types(results: Path) -> None:
    found = api.leaderboard(results=results)
    assert isinstance(found, pd.DataFrame) and len(found) == 3
    expected = {
        "cell": "string", "bbox_mAP": "float64", "engine_bytes": "Int64", "stable": "boolean",
    }  # fmt: skip
    assert {name: str(found.dtypes[name]) for name in expected} == expected
    assert found.set_index("cell").loc["good", "bbox_mAP"] == 0.6
    assert pd.isna(found.set_index("cell").loc["good", "voc_map"])


def test_rows_and_columns_are_chosen_as_by_the_command(results: Path) -> None:
    found = api.leaderboard(
        results=results, where="status = ok", sort="-box_ap", columns=("cell", "box_ap"), top=1
    )
    assert found.to_dict("records") == [{"cell": "good", "bbox_mAP": 0.6}]
    both = api.leaderboard(results=results, where=["status = ok", "model = a"], columns="cell")
    assert list(both.cell) == ["fast"]
    assert api.leaderboard(results=results, where="model = z").empty


def test_best_has_a_pick_for_each_model(results: Path) -> None:
    one, other = api.best(results=results, target="cpu")
    assert (one.model, one.cell, other.model, other.cell) == ("a", "fast", "b", "good")
    assert one.row["latency_p50_ms"] == 5.0 and one.sweeps == ("s",)
    assert one.left_out == {"bad": "failed: no operator"}
    assert one.engine is None and one.onnx is None  # no store has them
    assert "only eligible cell" in one.why


def test_best_without_an_engine_says_what_is_in_the_way(results: Path) -> None:
    (found,) = api.best(results=results, model="b", max_latency_ms=10)
    assert found.cell is None and found.row == {} and "--max-latency-ms 10: good" in found.why


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: api.load_matrix(r / "m.yaml"), "cannot read the matrix"),
        (lambda r: api.run("m.yaml", executor="rai"), "unknown executor 'rai'; did you mean 'ray'"),
        (lambda r: api.best(results=r, objective="speed"), "unknown objective 'speed'"),
        (lambda r: api.best(results=r, model="c"), "no model 'c'"),
        (lambda r: api.leaderboard(results=r, where="box_app > 1"), "did you mean 'bbox_mAP'"),
        (lambda r: api.leaderboard(results=r, columns="cel"), "did you mean one of: cell?"),
        (lambda r: api.leaderboard(results=r, target="gpu"), "no target 'gpu'"),
        (lambda r: api.leaderboard(results=r / "x"), "no leaderboard here"),
        (lambda r: api.compare(["fast", "good"], results=r, margin=2), "as 0.02 for 2 %"),
        (lambda r: api.compare(["fast", "good"], results=r, seconds=0), "over 0 to 3600 seconds"),
        (lambda r: api.compare(["fast"], results=r), "two or more cells are needed"),
        (lambda r: api.compare(["fast", "fats"], results=r), "not kept here; run it again"),
    ],
)  # fmt: skip
def test_wrong_input_is_an_error_that_says_what_is_expected(
    results: Path, call: Callable[[Path], Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        call(results)
    assert message in str(error.value)


def test_a_matrix_is_loaded_and_planned(small_matrix: Path, tmp_path: Path) -> None:
    matrix = api.load_matrix(small_matrix, ["opsets=[11, 17]"])
    assert [cell.opset for cell in matrix.cells] == [11, 17]
    plan = api.plan(matrix, results=tmp_path / "r")
    assert len(plan.cells) == 2 and not plan.missing
    assert {step.stage for step in plan.steps.values()} >= {"check", "export", "measure"}
    assert len(api.plan(str(small_matrix), ["opsets=[17]"], results=tmp_path).cells) == 1
    with pytest.raises(InputError, match="give them to `load_matrix`"):
        api.plan(matrix, ["opsets=[17]"])


def test_the_functions_are_names_of_the_package_too() -> None:
    assert {*api.__all__} - {"Best"} <= {*dir(farm)}
    assert farm.leaderboard is api.leaderboard and farm.best is api.best
    with pytest.raises(AttributeError, match="no attribute 'lederboard'"):
        _ = farm.lederboard


@pytest.mark.parametrize("name", ["plan", "run"])
@pytest.mark.parametrize("before", ["import farm", "import farm.{0}", "from farm import {0}", ""])
def test_a_module_and_a_function_of_one_name_are_both_there(name: str, before: str) -> None:
    code = (
        f"{before.format(name)}\nimport farm\nfrom farm.errors import InputError\n"
        f"try: farm.{name}('/no/matrix.yaml')\n"
        "except InputError as error: print(error)\n"
        "from farm.plan import make_plan\nfrom farm.run import guarded\n"
        f"import farm.{name} as module\nprint(type(module).__mro__[1].__name__)"
    )
    said, kind = python(code).splitlines()
    assert "cannot read the matrix" in said and kind == "module"


def test_importing_the_library_is_light() -> None:
    code = (
        "import sys, farm, farm.api\nfarm.leaderboard, farm.run, farm.plan\n"
        "print(sorted(set(sys.modules) & {'numpy', 'pandas', 'pyarrow', 'ray', 'mlflow', 'torch',"
        " 'pydantic'}))"
    )
    assert python(code) == "[]"


@pytest.mark.slow
def test_a_small_matrix_is_run_and_read_and_compared(
    small_results: Path, small_matrix: Path, tmp_path: Path
) -> None:
    """It continues from results that are there."""
    runtimes = ["runtimes=[onnxruntime, openvino, torch]"]
    sweep = farm.run(small_matrix, runtimes, results=small_results, executor="inline", mlflow=False)
    assert sweep.exit_code == 0 and not sweep.interrupted and len(sweep.rows) == 3
    table = farm.leaderboard(results=small_results)
    assert set(table.runtime) == {"onnxruntime", "openvino", "torch"}
    (pick,) = farm.best(results=small_results)
    assert pick.engine is None or pick.engine.exists()
    cells = table[table.runtime != "torch"].cell.tolist()
    ranks = farm.compare(cells, results=small_results, seconds=0.2)
    assert sorted(ranks.cell) == sorted(cells) and ranks["rank"].iloc[0] == 1
    assert ranks.vs_best.iloc[0] == 1.0
    folder = farm.bundle(cells[0], tmp_path / "bundle", results=small_results)
    assert (folder / "bundle.json").is_file()
