"""The demo's matrix end to end: by Ray, then once more, and what comes out of it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import PROJECT, Farm

from farm.config.loader import load_matrix
from farm.plan import make_plan
from farm.specs import Ref
from farm.store import Store
from farm.store.facts import facts_from

pytestmark = pytest.mark.slow


def test_every_cell_ends_well_and_is_as_good_as_pytorch(demo: Path) -> None:
    table = pd.read_parquet(demo / "leaderboard")
    assert len(table) == 28
    assert set(table.status) == {"ok"}
    assert set(table.runtime) == {"torch", "onnxruntime", "openvino"}
    assert (table.bbox_mAP >= 0.6).all()
    assert (table.bbox_mAP_drop.abs() < 1e-3).all()
    assert (table.bbox_mAP_drop_low <= table.bbox_mAP_drop + 1e-12).all()
    assert (table.bbox_mAP_drop <= table.bbox_mAP_drop_high + 1e-12).all()
    assert (table.bbox_mAP_drop_high < 1e-2).all()
    masked = table[table.model == "twostage"]
    assert masked.segm_mAP_drop_low.notna().all() and (masked.segm_mAP_drop_high < 1e-2).all()
    assert (masked.segm_mAP >= 0.5).all() and (masked.segm_mAP_drop.abs() < 1e-3).all()
    assert (table.matched_fraction == 1).all() and (table.max_score_diff < 1e-3).all()
    assert (table.latency_p50_ms > 0).all() and (table.peak_host_bytes > 10e6).all()
    assert table.samples.min() >= 2


def test_what_people_see_fits_80_columns(demo: Path) -> None:
    lines = (demo / "stdout.txt").read_text().splitlines()
    assert max(map(len, lines[1:])) <= 80
    assert "28 cells, 0 failed" in (demo / "stderr.txt").read_text()
    assert re.search(r"\[\d+/126\] export .*done in .* left", (demo / "stderr.txt").read_text())


def test_a_second_run_does_nothing_and_says_the_same(demo: Path, farm: Farm) -> None:
    before = {path: path.stat().st_mtime_ns for path in (demo / "store").rglob("record.json")}
    started = time.monotonic()
    again = farm("run", "matrices/demo.yaml", "--results", demo)
    assert again.returncode == 0, again.stderr
    assert time.monotonic() - started < 60  # minutes the first time; a bound, not a measurement
    assert again.stdout == (demo / "stdout.txt").read_text()
    assert {p: p.stat().st_mtime_ns for p in (demo / "store").rglob("record.json")} == before


def test_both_models_share_their_prepared_images(demo: Path) -> None:
    store = Store(demo / "store")
    plan = make_plan(load_matrix(PROJECT / "matrices" / "demo.yaml"), facts_from(store))
    assert len(plan.of_stage("prepare")) == 2
    assert len(list((demo / "store" / "prepare").glob("*/*"))) == 2
    exports = plan.of_stage("export")
    assert len(exports) == 12 and all(store.record(step.ref) for step in exports)


def test_every_step_has_its_log(demo: Path) -> None:
    store = Store(demo / "store")
    plan = make_plan(load_matrix(PROJECT / "matrices" / "demo.yaml"), facts_from(store))
    assert all(store.log_path(step.ref).is_file() for step in plan.steps.values())


def test_nothing_else_ran_on_the_node_while_one_was_measured(demo: Path) -> None:
    """Each artifact's folder got its place when its step ended: spans must not overlap."""
    store = Store(demo / "store")
    spans = []
    for path in (demo / "store").glob("*/*/*/record.json"):
        record = store.record(Ref(path.parent.parent.parent.name, path.parent.name))
        assert record is not None
        end = path.stat().st_mtime
        spans.append((end - record.seconds, end, record.stage))
    measured = [span for span in spans if span[2] == "measure"]
    assert len(measured) == 28
    for start, end, _ in measured:
        beside = [other for other in spans if other[0] < end - 0.05 and other[1] > start + 0.05]
        assert beside == [(start, end, "measure")]


def test_mlflow_has_a_parent_and_a_child_per_cell(demo: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{demo / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [run for run in runs if run.data.tags["farm.kind"] == "sweep"]
    cells = [run for run in runs if run.data.tags["farm.kind"] == "cell"]
    assert len(parents) == 1 and len(cells) == 28
    assert parents[0].data.metrics["cells_ok"] == 28
    cell = "twostage.op17.fixed.fp32.openvino.cpu"
    one = next(run for run in cells if run.data.tags["farm.cell"] == cell)
    assert one.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
    assert one.data.params["opset"] == "17" and one.data.params["runtime"] == "openvino"
    assert one.data.metrics["bbox_mAP"] > 0.6 and one.data.metrics["latency_p50_ms"] > 0
    assert one.data.tags["farm.status"] == "ok"
    assert (
        Path(one.data.tags["farm.onnx"]).is_file() and Path(one.data.tags["farm.engine"]).is_dir()
    )


@pytest.mark.parametrize("file", ["matrices/demo.yaml", "matrix-as-run.yaml"])
def test_plan_says_that_all_is_done(file: str, demo: Path, farm: Farm) -> None:
    """Also of the matrix as it was run, which MLflow has among its artifacts."""
    path = next(demo.glob(f"mlflow-artifacts/*/artifacts/{file}"), file)
    assert file == "matrices/demo.yaml" or path != file
    done = farm("plan", path, "--results", demo)
    assert done.returncode == 0
    assert re.search(r"^measure +28 +28 +28$", done.stdout, re.M)
    assert re.search(r"^export +24 +12 +12$", done.stdout, re.M)
    plan = json.loads(farm("plan", "matrices/demo.yaml", "--json", "--results", demo).stdout)
    assert all(step["in_store"] for step in plan["steps"].values())


def test_best_names_an_engine_that_lies_there(demo: Path, farm: Farm) -> None:
    done = farm("best", "--target", "cpu", "--model", "onestage", "--results", demo, "--json")
    assert done.returncode == 0, done.stderr
    picked = json.loads(done.stdout)
    table = pd.read_parquet(demo / "leaderboard").set_index("cell")
    fastest = table[table.model == "onestage"].latency_p50_ms.idxmin()
    if pd.isna(table["rank"][fastest]):
        assert picked["best"]["cell"] == fastest
    else:
        assert picked["best"]["rank"] == 1
    if "engine" in picked["files"]:
        assert Path(picked["files"]["engine"]).is_dir()
    text = farm("best", "--target", "cpu", "--model", "twostage", "--results", demo).stdout
    assert text.startswith("Ship twostage.") and "mask AP" in text
    pareto = farm("best", "--target", "cpu", "--pareto", "--results", demo).stdout
    assert "onestage" in pareto
    (target,) = json.loads(farm("best", "--results", demo, "--json").stdout)["targets"]
    assert [one["model"] for one in target["picks"]] == ["onestage", "twostage"]
    every = farm("best", "--results", demo).stdout
    assert "Pareto front" in every and "Ship onestage." in every and "Ship twostage." in every


def test_the_leaderboard_in_every_format(demo: Path, farm: Farm) -> None:
    for form, begins in (("table", "Leaderboard"), ("csv", "cell,"), ("markdown", "| model")):
        done = farm("leaderboard", "--target", "cpu", "--format", form, "--results", demo)
        assert done.returncode == 0 and done.stdout.startswith(begins)
    assert len(json.loads(farm("leaderboard", "--format", "json", "--results", demo).stdout)) == 28


def test_ap_by_class_is_that_of_the_whole(demo: Path, farm: Farm) -> None:
    done = farm("leaderboard", "--by-class", "--format", "json", "--results", demo)
    rows, found = pd.read_parquet(demo / "leaderboard"), json.loads(done.stdout)
    own = rows[rows.cell == "twostage.op17.fixed.fp32.openvino.cpu"].iloc[0]
    classes = [one for one in found if one["cell"] == own.cell]
    assert [one["class"] for one in classes] == ["circle", "square", "star", "triangle"]
    for kind in ("bbox_mAP", "segm_mAP"):
        assert sum(one[kind] for one in classes) / 4 == pytest.approx(own[kind])


def test_reproduce_does_one_cell_again(demo: Path, farm: Farm) -> None:
    """With its masks; one of the other model is a command of the README."""
    done = farm("reproduce", "twostage.op17.fixed.fp32.openvino.cpu", "--results", demo)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^status +ok +ok +none$", done.stdout, re.M)
    first, second = re.findall(r"^bbox_mAP +(\S+) +(\S+) +none$", done.stdout, re.M)[0]
    assert first == second
    assert "== evaluate: done" in done.stderr
    assert "opened an engine of openvino" in done.stdout  # the full log of the step
