"""What MLflow is given of a cell and of a sweep: names, figures, tags, descriptions."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rows import row

from farm.catalog import OWN_STAGES
from farm.results import leaderboard, tracking
from farm.results.columns import COLUMNS
from farm.results.kept import matrices
from farm.results.tracking import sweeps
from farm.results.tracking.cells import METRICS, digest_of, of_cell
from farm.results.tracking.runs import Dataset, now_ms


def test_there_are_fewer_than_thirty_metrics_and_all_are_columns() -> None:
    assert len(METRICS) < 30 and set(METRICS) <= set(COLUMNS)
    full = row("x", **dict.fromkeys(METRICS, 1))
    assert len(of_cell(full, tracking.Evidence(), "x").metrics) == len(METRICS)


def test_the_keys_of_the_store_are_in_one_tag() -> None:
    content = of_cell(row("x", build_key="b" * 64), tracking.Evidence(), "x")
    assert json.loads(content.tags["farm.keys"]) == {"build": "b" * 64}
    assert not any(name.endswith("_key") for name in content.tags)
    assert all(len(text) <= 500 for name, text in content.tags.items() if name != "farm.keys")


def test_a_cell_that_was_skipped_says_why() -> None:
    found = of_cell(row("x", status="skipped", reason="too old"), tracking.Evidence(), "x")
    assert (
        found.status == "KILLED"
        and "**skipped**\n\n```\ntoo old" in found.tags["mlflow.note.content"]
    )
    assert "mlflow.note.content" not in of_cell(row("x"), tracking.Evidence(), "x").tags
    unknown = row("x", status="failed", failed_stage="build", reason="")
    assert "mlflow.note.content" not in of_cell(unknown, tracking.Evidence(), "x").tags


def test_what_was_not_built_here_is_no_model() -> None:
    links = {"engine": "/e"}
    assert of_cell(row("x"), tracking.Evidence(links), "x").engine is None
    assert of_cell(row("x"), tracking.Evidence(sha256="0"), "x").engine is None
    engine = of_cell(row("a.b@1.2"), tracking.Evidence(links, sha256="0"), "x").engine
    assert engine is not None and engine.name == "a-b@1-2"  # without dots, as MLflow wants it
    assert "farm.driver" not in engine.tags
    gpu = row("x", device="NVIDIA H200 (9.0, driver 580)")
    engine = of_cell(gpu, tracking.Evidence(links, sha256="0"), "x").engine
    assert engine is not None and engine.tags["farm.driver"] == "580"


def of_sweep(results: Path, rows: list[dict[str, Any]], complete: bool = True) -> Any:
    found, times = Dataset("coco, 5 images", "d1", "{}"), [(5.0, 6.0), (None, None), (4.0, 8.0)]
    kept = matrices.kept(results, "s")
    source = sweeps.source_of(kept)
    return sweeps.of_sweep("s", rows, found, times, kept, complete, results, source)


def test_the_description_of_a_sweep_has_what_it_found_and_how_it_is_run_again(
    tmp_path: Path,
) -> None:
    (tmp_path / "sweeps").mkdir()
    kept = {
        "matrix": str(tmp_path / "m.yaml"), "values": {"name": "${N}"}, "text": "name: ${N}\n",
        "command": "farm run m.yaml",
    }  # fmt: skip
    (tmp_path / "sweeps/s.json").write_text(json.dumps(kept))
    rows = [row("x"), row("y", status="failed", reason="|no|", failed_stage="build")]
    content = of_sweep(tmp_path, rows)
    note = content.tags["mlflow.note.content"]
    assert "**Ship** of m on cpu: `x`" in note and "| model | runtime |" in note
    assert "**Data set** coco, 5 images, digest `d1`" in note and "`farm run m.yaml`" in note
    assert (content.began, content.ended, content.status) == (4000, 8000, "FAILED")
    assert content.tags["mlflow.source.name"] == str(tmp_path / "m.yaml")
    assert content.tags["mlflow.user"]
    assert "mlflow.source.git.commit" not in content.tags  # it lies in no repository
    assert content.files["matrix.yaml"] == "name: ${N}\n"
    as_run = yaml.safe_load(content.files["matrix-as-run.yaml"])
    assert as_run == {"name": "${N}", "folder": str(tmp_path)}
    assert "leaderboard.csv" in content.files
    under_way = of_sweep(tmp_path, rows, complete=False)
    assert under_way.status == "RUNNING" and under_way.ended is None
    assert "leaderboard.csv" not in under_way.files


def test_a_run_says_how_many_cells_ended_how_and_the_worst_of_it(tmp_path: Path) -> None:
    failed = row("y", status="failed", reason="no", failed_stage="build")
    pending = row("z", status="pending", reason="waits")
    for rows, status in (
        ([row("x")], "FINISHED"), ([row("x"), failed], "FAILED"),
        ([row("x"), failed, pending], "KILLED"),
    ):  # fmt: skip
        content = of_sweep(tmp_path, rows)
        assert content.status == status and content.tags["farm.cells"] == str(len(rows))
        counts = {name: value for name, value in content.metrics.items() if value}
        states = {f"cells_{one['status']}": 1.0 for one in rows}
        assert counts == {**states, "cells": float(len(rows))}


def test_the_front_is_of_the_cells_of_a_target_that_ended_well_with_an_ap_and_a_latency(
    tmp_path: Path,
) -> None:
    rows = [
        row("x", model="best"), row("y", model="on another", target="gpu"),
        row("z", model="worse", status="failed", latency_p50_ms=1.0, reason="no"),
        row("u", model="unmeasured", latency_p50_ms=None), row("v", model="raw", box_ap=None),
        row("w", model="beaten", latency_p50_ms=20.0, box_ap=0.4),
    ]  # fmt: skip
    note = of_sweep(tmp_path, rows).tags["mlflow.note.content"]
    front = note.partition("**Pareto front** of AP and latency on cpu\n\n")[2].partition("\n\n")[0]
    assert "best" in front
    for other in ("on another", "worse", "unmeasured", "raw", "beaten"):
        assert other not in front
    assert "on gpu" in note and "**Ship** of raw on cpu: `none`" in note
    assert "Ship" not in of_sweep(tmp_path, rows[2:3]).tags["mlflow.note.content"]


def test_a_sweep_of_a_repository_has_its_commit_and_its_leaderboard(tmp_path: Path) -> None:
    git = ("git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q"), ("commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    found = sweeps.source_of({"matrix": str(tmp_path / "m.yaml")})
    assert found["mlflow.source.git.commit"] == commit.stdout.strip()
    assert found["mlflow.source.type"] == "LOCAL"
    for elsewhere in ({}, {"matrix": 3}, {"matrix": "/m.yaml"}):
        assert "mlflow.source.git.commit" not in sweeps.source_of(elsewhere)
    with pytest.MonkeyPatch.context() as without:
        without.setenv("PATH", "")
        found = sweeps.source_of({"matrix": str(tmp_path / "m.yaml")})
        assert "mlflow.source.git.commit" not in found
    leaderboard.write([row("x")], tmp_path, "s")
    files = of_sweep(tmp_path, [row("x")]).files
    assert str(files["leaderboard.csv"]).endswith("\n")
    (path,) = (tmp_path / "leaderboard").glob("target=cpu/sweep=s/*.parquet")
    assert files["leaderboard/cpu.parquet"] == path


def test_the_time_of_runs_is_in_milliseconds() -> None:
    assert abs(now_ms() - 1000 * time.time()) < 60_000


def test_texts_are_cut_and_keys_are_not() -> None:
    long = row("x", status="failed", failed_stage="build", reason="r" * 6000, device="d" * 600)
    long |= {f"{stage}_key": "a" * 64 for stage in OWN_STAGES}
    evidence = tracking.Evidence(began=1.5, ended=2.25)
    content = of_cell(long, evidence, "x")
    assert (content.began, content.ended, content.status) == (1500, 2250, "FAILED")
    assert len(content.tags["farm.device"]) == len(content.tags["farm.reason"]) == 500
    assert len(content.tags["farm.keys"]) > 500
    note = content.tags["mlflow.note.content"]
    assert note.startswith("**failed** at `build`\n\n```\nrrr") and note.count("r" * 5000) == 1
    assert note.endswith("```\n\nThe log of the step is among the artifacts, where one was kept.")


def test_what_is_logged_has_another_digest_where_onnx_files_are_asked_for() -> None:
    digests = {
        of_cell(row("x"), tracking.Evidence(), "x", copies=one).digest for one in (False, True)
    }
    own = [digest_of(row("x"), tracking.Evidence(), "x", one) for one in (False, True)]
    assert len(digests) == 2 and digests == {*own}
    assert of_cell(row("x"), tracking.Evidence(), "x").digest == own[0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"values": 1, "matrix": 2, "command": 3}'])
def test_a_matrix_that_is_not_kept_is_left_out(text: str, tmp_path: Path) -> None:
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/s.json").write_text(text)
    assert of_sweep(tmp_path, [row("x")]).metrics["cells"] == 1
    assert not matrices.copies_onnx(matrices.kept(tmp_path, "s"))


def test_onnx_files_are_copied_where_the_matrix_says_so() -> None:
    assert matrices.copies_onnx({"values": {"mlflow": {"artifacts": True}}})
    for other in ({}, {"mlflow": True}, {"mlflow": {"artifacts": "yes"}}):
        assert not matrices.copies_onnx({"values": other})
