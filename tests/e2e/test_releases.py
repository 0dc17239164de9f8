"""Releases of runtimes side by side in one sweep, each made from the package index."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, Farm, needs_packages, skip_but_in_ci

from farm.environments import EnvironmentFailed, uv

pytestmark = [pytest.mark.slow, needs_packages]

NEVER = "openvino@2031.2"
RUNTIMES = ("openvino", "openvino@2025.2", "openvino@lts", "onnxruntime", "onnxruntime@1.20")


@pytest.fixture(scope="module")
def results(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of `matrices/releases.yaml` with a release that nobody has published."""
    try:
        uv.run("pip", "compile", "-", "--quiet", stdin="openvino==2025.2.*\nonnxruntime==1.20.*")
    except EnvironmentFailed as error:
        skip_but_in_ci(f"no package index with these releases answers: {error}")
    folder = tmp_path_factory.mktemp("releases")
    runtimes = f"runtimes=[{', '.join([*RUNTIMES, NEVER])}]"
    words = ("matrices/releases.yaml", runtimes, "--no-mlflow", "--results", folder)
    done = farm("run", *words, env=environ(folder))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "6 cells, 1 failed" in done.stderr
    return folder


def environ(folder: Path) -> dict[str, str]:
    """The variables of a run: with environments of its own, and uv's cache as it is."""
    return {"FARM_ENVIRONMENTS": os.environ.get("FARM_ENVIRONMENTS", str(folder / "environments"))}


@pytest.fixture(scope="module")
def rows(farm: Farm, results: Path) -> dict[str, dict[str, Any]]:
    done = farm("leaderboard", "--format", "json", "--results", results)
    assert done.returncode == 0, done.stderr
    return {row["runtime"]: row for row in json.loads(done.stdout)}


def test_each_release_is_the_same_detector_and_says_its_version(
    rows: dict[str, dict[str, Any]],
) -> None:
    assert {name: row["status"] for name, row in rows.items()} == {
        **dict.fromkeys(RUNTIMES, "ok"), NEVER: "failed",
    }  # fmt: skip
    versions = {name: rows[name]["runtime_version"] for name in RUNTIMES}
    assert versions["openvino@2025.2"].startswith("2025.2.")
    assert versions["openvino@lts"].startswith("2025.0.")
    assert versions["onnxruntime@1.20"].startswith("1.20.")
    assert len({*versions.values()}) == 5
    assert len({rows[name]["build_key"] for name in RUNTIMES}) == 5
    assert len({rows[name]["export_key"] for name in RUNTIMES}) == 1
    assert all(rows[name]["bbox_mAP"] > 0.5 for name in RUNTIMES)


def test_releases_are_ranked_with_each_other(rows: dict[str, dict[str, Any]]) -> None:
    """In processes of their environments: the fastest, and those that are nearly as fast."""
    keys = {rows[name]["compare_key"] for name in RUNTIMES if rows[name]["rank"]}
    ranked = [name for name in RUNTIMES if rows[name]["rank"]]
    assert len(keys) == 1 and len(ranked) > 1 and any("@" in name for name in ranked)


def test_a_release_that_cannot_be_installed_costs_its_own_cell(
    rows: dict[str, dict[str, Any]],
) -> None:
    assert rows[NEVER]["failed_stage"] == "build"
    reason = rows[NEVER]["reason"]
    assert reason.startswith(f"environment {NEVER}: Because only openvino<=")
    assert "openvino==2031.2.*" in reason and "\n" not in reason


def test_the_best_of_several_releases_is_picked(farm: Farm, results: Path) -> None:
    done = farm("best", "--target", "cpu", "--results", results, "--json")
    assert done.returncode == 0, done.stderr
    (picked,) = json.loads(done.stdout)["targets"][0]["picks"]
    assert picked["best"]["runtime"] in RUNTIMES
    assert NEVER in done.stdout  # among those left out, with the reason


def test_two_releases_are_compared_cell_by_cell(
    farm: Farm, results: Path, rows: dict[str, dict[str, Any]]
) -> None:
    words = ("runtime=openvino", "runtime=openvino@2025.2", "--results", results)
    done = farm("diff", *words, "--format", "json", "--max-ap-drop", "0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(done.stdout)
    a, b = rows["openvino"], rows["openvino@2025.2"]
    assert found["verdict"] in ("same", "better", "worse") and found["unlike"] == ""
    assert (found["cell_a"], found["cell_b"]) == (a["cell"], b["cell"])
    assert found["latency_ratio"] == pytest.approx(b["latency_p50_ms"] / a["latency_p50_ms"])
    assert found["bbox_mAP_gain"] == round(100 * (b["bbox_mAP"] - a["bbox_mAP"]), 3)
    done = farm("diff", "runtime=openvino", f"runtime={NEVER}", "--results", results)
    said = f"broke at build: {rows[NEVER]['reason']}: {rows[NEVER]['cell']}\n"
    assert done.returncode == 1 and said in done.stdout


def test_the_same_matrix_again_makes_and_runs_nothing(farm: Farm, results: Path) -> None:
    runtimes = f"runtimes=[{', '.join(RUNTIMES)}]"
    words = ("matrices/releases.yaml", runtimes, "--results", results)
    planned = farm("plan", "--json", *words, env=environ(results))
    plan = json.loads(planned.stdout)
    assert plan["unmade"] == [] and all(step["in_store"] for step in plan["steps"].values())
    done = farm("run", *words, "--no-mlflow", env=environ(results))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Making" not in done.stderr and "steps to do" not in done.stderr


def test_a_cell_of_a_release_is_reproduced(farm: Farm, results: Path) -> None:
    cell = "ready.fixed.fp32.onnxruntime@1.20.cpu"
    done = farm("reproduce", cell, "--results", results, env=environ(results))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_release_that_leaves_the_file_is_named(farm: Farm, results: Path) -> None:
    """In the environments of the sweep. OpenVINO and ONNX Runtime differ in the last bits."""
    words = ("bisect", "ready.fixed.fp32.openvino.cpu", "--results", results, "--images", 2)
    versions = ("--versions", "openvino==2025.2,2025.0", "--tolerance", "1e-9", "--json")
    done = farm(*words, *versions, env=environ(results))
    assert done.returncode == 1, done.stdout + done.stderr
    (found,) = json.loads(done.stdout)  # the other one is not tried any more
    assert found["compared"].startswith("openvino 2025.2.")
    assert found["found"]["node"] and found["found"]["difference"] > 1e-9


def test_a_pack_leaves_out_what_it_cannot_make_elsewhere(
    farm: Farm, results: Path, tmp_path: Path
) -> None:
    words = ("matrices/releases.yaml", "--results", results, "-o", tmp_path / "x.tar.gz")
    done = farm("pack", *words, env=environ(results))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 cells are not packed: they run in environments of their own." in done.stderr
    done = farm("pack", *words, "runtimes=[openvino@lts]", env=environ(results))
    assert done.returncode == 2 and "every cell runs in an environment of its own" in done.stderr


def test_the_matrix_is_in_the_documentation() -> None:
    assert "matrices/releases.yaml" in (PROJECT / "docs" / "environments.md").read_text()
