"""MLflow: what a sweep leaves in a real store, and what another run of it changes there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rows import row

from farm.results import tracking


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, migrated once (seconds) and copied for each test."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def results(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(template.read_bytes())
    return folder


def cells(*rows: dict[str, Any], **links: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return list(rows), {one["cell"]: dict(links) for one in rows}


def log(results: Path, *rows: dict[str, Any], sweep: str = "s", **links: str) -> bool:
    return tracking.log_sweep(sweep, *cells(*rows, **links), results)


def runs(results: Path) -> tuple[dict[str, Run], dict[str, Run]]:
    """Parents by sweep, and children by cell."""
    client = MlflowClient(tracking_uri=tracking.tracking_uri(results))
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    parents = {one.data.tags["farm.sweep"]: one for one in found if "farm.sweep" in one.data.tags}
    children = {one.data.tags["farm.cell"]: one for one in found if "farm.cell" in one.data.tags}
    assert len(parents) + len(children) == len(found)
    return parents, children


def state_of(run: Run) -> str:
    return str(run.info.status)


def tags(run: Run) -> Mapping[str, str]:
    found: Mapping[str, str] = run.data.tags
    return found


def test_a_sweep_is_a_parent_run_with_a_child_for_each_cell(results: Path) -> None:
    ok = row("x", opset=17, stable=True)
    bad = row("y", status="failed", failed_stage="build", reason="no operator", box_ap=None)
    assert log(results, ok, bad, engine="/store/engine")
    parents, children = runs(results)
    (parent,), (good, failed) = parents.values(), (children["x"], children["y"])
    assert parent.info.run_name == "s" and good.info.run_name == "x"
    assert tags(parent)["farm.kind"] == "sweep" and tags(good)["farm.kind"] == "cell"
    assert tags(good)["mlflow.parentRunId"] == parent.info.run_id
    assert good.data.params == {
        "sweep": "s", "model": "m", "opset": "17", "shape": "fixed", "postprocess": "graph",
        "precision": "fp32", "runtime": "onnxruntime", "target": "cpu",
    }  # fmt: skip
    assert good.data.metrics == {
        "box_ap": 0.5, "box_ap_reference": 0.5, "box_ap_drop": 0.0, "latency_p50_ms": 10.0,
        "throughput_per_s": 100.0, "threads": 2.0, "stable": 1.0,
    }  # fmt: skip
    assert tags(good)["farm.engine"] == "/store/engine"
    assert tags(good)["farm.device"] == "a cpu" and tags(good)["farm.status"] == "ok"
    assert "farm.reason" not in tags(good) and "farm.model" not in tags(good)
    assert tags(failed)["farm.reason"] == "no operator"
    assert "box_ap" not in failed.data.metrics
    assert (state_of(good), state_of(failed)) == ("FINISHED", "FAILED")


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        (["ok", "ok"], "FINISHED"),
        (["ok", "failed"], "FAILED"),
        (["failed", "pending", "ok"], "KILLED"),
        (["ok", "pending"], "KILLED"),
    ],
)
def test_the_parent_counts_its_cells_and_ends_as_the_worst(
    states: list[str], worst: str, results: Path
) -> None:
    log(results, *(row(f"c{n}", status=state) for n, state in enumerate(states)))
    parents, _ = runs(results)
    parent = parents["s"]
    assert state_of(parent) == worst
    assert parent.data.metrics == {
        "cells": len(states), "cells_ok": states.count("ok"),
        "cells_failed": states.count("failed"), "cells_pending": states.count("pending"),
    }  # fmt: skip
    assert parent.data.params == {"sweep": "s"}
    assert tags(parent)["farm.cells"] == str(len(states))


def test_the_same_sweep_again_writes_nothing(results: Path) -> None:
    assert log(results, row("x"), row("y"))
    assert not log(results, row("x"), row("y"))
    assert not log(results, dict(reversed(row("x").items())), row("y"))
    mark = json.loads((results / "tracked" / "s.json").read_text())
    assert set(mark["cells"]) == {"x", "y"} and mark["server"].startswith("sqlite:///")
    assert list((results / "tracked").iterdir()) == [results / "tracked" / "s.json"]


def test_only_cells_that_changed_are_written_again_to_the_same_runs(results: Path) -> None:
    log(results, row("x"), row("y", status="failed", reason="why"))
    parents, before = runs(results)
    assert log(results, row("x"), row("y", box_ap=0.75))
    again, after = runs(results)
    assert again["s"].info.run_id == parents["s"].info.run_id
    assert {name: run.info.run_id for name, run in after.items()} == {
        name: run.info.run_id for name, run in before.items()
    }
    assert after["x"].info.end_time == before["x"].info.end_time  # not touched
    assert after["y"].data.metrics["box_ap"] == 0.75 and state_of(after["y"]) == "FINISHED"
    assert "farm.reason" not in tags(after["y"])  # what it said before is gone
    assert state_of(again["s"]) == "FINISHED" and again["s"].data.metrics["cells_failed"] == 0


def test_an_engine_that_moved_is_a_change(results: Path) -> None:
    log(results, row("x"), engine="/old")
    assert log(results, row("x"), engine="/new")
    assert tags(runs(results)[1]["x"])["farm.engine"] == "/new"


def test_sweeps_are_apart_though_their_cells_have_one_name(results: Path) -> None:
    log(results, row("x"), sweep="s")
    log(results, row("x", sweep="t"), sweep="t")
    client = MlflowClient(tracking_uri=tracking.tracking_uri(results))
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert len(found) == 4
    assert experiment.artifact_location == (results / "mlflow-artifacts").as_uri()
    names = {one.data.params["sweep"] for one in found if "farm.cell" in one.data.tags}
    assert names == {"s", "t"}


def test_runs_of_other_programs_under_the_parent_are_left_alone(results: Path) -> None:
    log(results, row("x"))
    parents, _ = runs(results)
    client = MlflowClient(tracking_uri=tracking.tracking_uri(results))
    parent = parents["s"].info
    other = client.create_run(parent.experiment_id, tags={"mlflow.parentRunId": parent.run_id})
    (results / "tracked" / "s.json").unlink()
    assert log(results, row("x", box_ap=0.25))
    assert client.get_run(other.info.run_id).info.status == "RUNNING"
    children = client.search_runs([parent.experiment_id], "tags.`farm.cell` = 'x'")
    assert [one.data.metrics["box_ap"] for one in children] == [0.25]


def test_a_database_that_was_removed_is_written_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(results, row("x"))
    (results / "mlflow.db").unlink()

    def client(*_: object) -> None:
        raise ConnectionError("asked")

    monkeypatch.setattr(tracking, "_client", client)
    with pytest.raises(ConnectionError, match="asked"):
        log(results, row("x"))


def test_an_address_of_the_environment_is_respected(
    results: Path, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tracking.tracking_uri(results) == f"sqlite:///{results / 'mlflow.db'}"
    other = tmp_path / "other.db"
    other.write_bytes(template.read_bytes())
    (results / "mlflow.db").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    monkeypatch.chdir(tmp_path)
    assert log(results, row("x")) and not log(results, row("x"))
    assert not (results / "mlflow.db").exists()
    client = MlflowClient(tracking_uri=f"sqlite:///{other}")
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None and "mlflow-artifacts" not in experiment.artifact_location
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking.tracking_uri(results) == f"sqlite:///{results / 'mlflow.db'}"


def test_a_folder_in_the_databases_place_is_named(results: Path) -> None:
    (results / "mlflow.db").unlink()
    (results / "mlflow.db").mkdir()
    with pytest.raises(IsADirectoryError, match=r"mlflow\.db is a folder"):
        log(results, row("x"))


def test_long_texts_and_many_tags_are_cut_to_what_mlflow_takes(results: Path) -> None:
    many = {f"text{n}": "x" for n in range(150)}
    assert log(results, row("x", reason="r" * 6000, **many))
    found = tags(runs(results)[1]["x"])
    assert len(found["farm.reason"]) == 5000
    assert sum(name.startswith("farm.") for name in found) <= 104


def test_thousands_of_children_are_found_page_by_page(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(results, *(row(f"c{n}") for n in range(3)))
    parents, children = runs(results)
    client = MlflowClient(tracking_uri=tracking.tracking_uri(results))
    search = client.search_runs

    def small_pages(*arguments: Any, **options: Any) -> Any:
        return search(*arguments, **{**options, "max_results": 2})

    monkeypatch.setattr(client, "search_runs", small_pages)
    parent = parents["s"].info
    found = tracking._children(client, parent.experiment_id, parent.run_id)
    assert {name: run for name, (run, _) in found.items()} == {
        name: run.info.run_id for name, run in children.items()
    }
    assert all(len(digest) == 64 for _, digest in found.values())
