"""MLflow: what a sweep leaves in a real store, and what another run of it changes there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from rows import row

from farm.results import tracking
from farm.results.tracking import database, tables
from farm.results.tracking.runs import Dataset
from farm.results.tracking.server import Server

FIRST, LAST = 1_750_000_000.25, 1_750_000_009.5
DATASET = Dataset("coco, 5 images", "0123456789abcdef", '{"type": "coco"}')


WHERE = pytest.mark.parametrize("where", ["own", "other", "client"])


def write_to(where: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log to the own database, to one that the user has named, or to that by MLflow's client."""
    if where == "client":
        monkeypatch.setattr(tracking, "_has_tables", lambda *_: False)
    if where != "own":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{results / 'mlflow.db'}?timeout=20")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database, migrated once (seconds) and copied for each test."""
    folder = tmp_path_factory.mktemp("mlflow")
    MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def client_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write by MLflow's client, as to a server, though an SQLite database is faster by tables."""
    monkeypatch.setattr(tracking, "_has_tables", lambda *_: False)


@pytest.fixture
def results(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts by default
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(template.read_bytes())
    return folder


def cells(
    *rows: dict[str, Any], **links: str
) -> tuple[list[dict[str, Any]], dict[str, tracking.Evidence]]:
    return list(rows), {one["cell"]: tracking.Evidence(links) for one in rows}


def log(results: Path, *rows: dict[str, Any], sweep: str = "s", **links: str) -> bool:
    return tracking.log_sweep(sweep, *cells(*rows, **links), results)


def client_of(results: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking.tracking_uri(results))


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
    assert parent.info.run_name == "s" and good.info.run_name == "op17"
    assert tags(parent)["farm.kind"] == "sweep" and tags(good)["farm.kind"] == "cell"
    assert tags(good)["mlflow.parentRunId"] == parent.info.run_id
    assert good.data.params == {
        "sweep": "s", "model": "m", "opset": "17", "shape": "fixed", "postprocess": "graph",
        "precision": "fp32", "runtime": "onnxruntime", "target": "cpu", "threads": "2",
    }  # fmt: skip
    assert good.data.metrics == {
        "bbox_mAP": 0.5, "bbox_mAP_drop": 0.0, "latency_p50_ms": 10.0, "throughput_per_s": 100.0,
        "stable": 1.0,
    }  # fmt: skip
    assert tags(good)["farm.engine"] == "/store/engine"
    assert tags(good)["farm.device"] == "a cpu" and tags(good)["farm.status"] == "ok"
    assert "farm.reason" not in tags(good) and "farm.model" not in tags(good)
    assert tags(failed)["farm.reason"] == "no operator"
    assert "bbox_mAP" not in failed.data.metrics
    assert (state_of(good), state_of(failed)) == ("FINISHED", "FAILED")


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        (["ok", "ok"], "FINISHED"),
        (["ok", "skipped"], "FINISHED"),
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
        "cells_skipped": states.count("skipped"),
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
    assert after["y"].data.metrics["bbox_mAP"] == 0.75 and state_of(after["y"]) == "FINISHED"
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
    assert [one.data.metrics["bbox_mAP"] for one in children] == [0.25]


def test_a_database_that_was_removed_is_made_and_written_again(results: Path) -> None:
    log(results, row("x"))
    (results / "mlflow.db").unlink()
    assert log(results, row("x")) and set(runs(results)[1]) == {"x"}
    assert not log(results, row("x"))


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


def test_tags_are_short_and_few(results: Path) -> None:
    many = {f"text{n}": "x" for n in range(150)}
    assert log(results, row("x", reason="r" * 9000, status="failed", **many))
    found = tags(runs(results)[1]["x"])
    assert len(found["farm.reason"]) == 500 and len(found["farm.digest"]) == 64
    assert sum(name.startswith("farm.") for name in found) < 20
    assert "r" * 5000 in found["mlflow.note.content"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"opset": 17}, {"opset": 18}),
        ({"workspace_bytes": 4}, {}),
        ({}, {"box_ap": None, "status": "failed", "reason": "why"}),
    ],
)
@WHERE
def test_what_mlflow_cannot_change_in_a_run_makes_a_new_one(
    where: str, before: Any, after: Any, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A param of another value, and a param or a metric that is no more."""
    write_to(where, results, monkeypatch)
    log(results, row("x", **before), row("y"))
    client, (old, other) = client_of(results), (runs(results)[1][name] for name in "xy")
    assert log(results, row("x", **after), row("y"))
    experiment = old.info.experiment_id
    (shown,) = client.search_runs([experiment], "tags.`farm.cell` = 'x'")
    found = client.search_runs([experiment], "tags.`farm.cell` = 'x'", ViewType.ALL)
    superseded = {one.info.run_id: one.data.tags.get("farm.superseded") for one in found}
    (new,) = (run for run, by in superseded.items() if by is None)
    assert superseded == {new: None, old.info.run_id: new} and shown.info.run_id == new
    kept = client.get_run(old.info.run_id)
    assert kept.data.params == old.data.params and kept.data.metrics == old.data.metrics
    assert client.get_run(new).data.tags["mlflow.parentRunId"] == tags(old)["mlflow.parentRunId"]
    assert client.get_run(other.info.run_id).info.end_time == other.info.end_time
    assert not log(results, row("x", **after), row("y"))
    (results / "tracked" / "s.json").unlink()
    assert log(results, row("x", **after), row("y"))
    assert len(client.search_runs([experiment], "tags.`farm.cell` = 'x'", ViewType.ALL)) == 2


def test_a_param_that_is_new_needs_no_new_run(results: Path) -> None:
    log(results, row("x"))
    before = runs(results)[1]["x"].info.run_id
    log(results, row("x", opset=18))
    after = runs(results)[1]["x"]
    assert after.info.run_id == before and after.data.params["opset"] == "18"


@pytest.mark.usefixtures("client_alone")
def test_a_server_and_the_own_database_get_the_same_runs(
    results: Path, tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by MLflow's client there, and to its tables here; a run that changes, too."""

    def content(run: Run) -> Any:
        data, info = run.data, run.info
        own = {name: value for name, value in data.tags.items() if name != "mlflow.parentRunId"}
        history = {
            name: [one.value for one in client_of(results).get_metric_history(info.run_id, name)]
            for name in data.metrics
        }
        return (
            own, data.params, data.metrics, history, info.status, info.run_name, info.user_id,
            info.lifecycle_stage, info.end_time is None, info.start_time > 0,
            info.artifact_uri.endswith(f"/{info.run_id}/artifacts"),
        )  # fmt: skip

    def both() -> Any:
        return [{name: content(run) for name, run in found.items()} for found in runs(results)]

    steps = [
        [row("x", opset=17), row("y", status="failed", reason="why\n", failed_stage="build")],
        [row("x", opset=17), row("y", box_ap=0.75, fallback="n/a")],
    ]
    here = []
    for rows in steps:
        log(results, *rows, engine="/e")
        here.append(both())
    (tmp_path / "other.db").write_bytes(template.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    for rows, expected in zip(steps, here, strict=True):
        log(results, *rows, engine="/e")
        assert both() == expected


@pytest.mark.usefixtures("client_alone")
def test_a_new_cell_takes_three_calls_and_a_changed_one_no_search(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{results / 'mlflow.db'}?timeout=20")
    calls = list[str]()
    for name in ("create_run", "log_batch", "set_terminated", "get_run", "search_runs", "set_tag"):
        made = getattr(MlflowClient, name)

        def counted(*args: Any, _made: Any = made, _name: str = name, **more: Any) -> Any:
            calls.append(_name)
            return _made(*args, **more)

        monkeypatch.setattr(MlflowClient, name, counted)
    log(results, row("x"), row("y"))
    cell, parent = ["create_run", "log_batch", "set_terminated"], ["search_runs", "create_run"]
    assert calls == [*parent, "search_runs", *cell, *cell, "log_batch", "set_terminated"]
    calls.clear()
    log(results, row("x"), row("y", box_ap=0.25))
    written = ["log_batch", "set_terminated"]
    assert calls == ["search_runs", "get_run", *written, *written]


@pytest.mark.usefixtures("client_alone")
def test_a_run_that_was_removed_there_is_made_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{results / 'mlflow.db'}?timeout=20")
    log(results, row("x"), row("y"))
    client_of(results).delete_run(runs(results)[1]["x"].info.run_id)
    assert log(results, row("x", box_ap=0.25), row("y"))
    assert {name: one.data.metrics["bbox_mAP"] for name, one in runs(results)[1].items()} == {
        "x": 0.25, "y": 0.5,
    }  # fmt: skip


def test_a_sweep_under_way_is_running_until_it_is_complete(results: Path) -> None:
    one, links = cells(row("x"))
    waiting = row("y", status="pending", reason="not yet")
    some, all_links = [*one, waiting], {**links, "y": tracking.Evidence()}
    assert tracking.log_sweep("s", some, all_links, results, complete=False)
    assert not tracking.log_sweep("s", some, all_links, results, complete=False)
    assert set(runs(results)[1]) == {"x"}  # what has not ended has no run
    parent = runs(results)[0]["s"]
    assert state_of(parent) == "RUNNING" and parent.info.end_time is None
    assert tracking.log_sweep("s", one, links, results)
    parent = runs(results)[0]["s"]
    assert state_of(parent) == "FINISHED" and parent.info.end_time


def test_a_note_of_an_earlier_version_is_replaced_and_its_runs_are_kept(results: Path) -> None:
    log(results, row("x"))
    before, mark = runs(results)[1]["x"].info, results / "tracked" / "s.json"
    mark.write_text(json.dumps({"server": "sqlite:///x", "cells": {"x": "0" * 64}}))
    assert log(results, row("x")) and not log(results, row("x"))
    assert runs(results)[1]["x"].info.end_time == before.end_time


def test_thousands_of_children_are_found_page_by_page(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{results / 'mlflow.db'}?timeout=20")
    log(results, *(row(f"c{n}") for n in range(3)))
    parents, children = runs(results)
    search = MlflowClient.search_runs

    def small_pages(*arguments: Any, **options: Any) -> Any:
        return search(*arguments, **{**options, "max_results": 2})

    monkeypatch.setattr(MlflowClient, "search_runs", small_pages)
    found = Server(tracking.tracking_uri(results)).children(parents["s"].info.run_id)
    assert {name: one.run for name, one in found.items()} == {
        name: run.info.run_id for name, run in children.items()
    }
    assert all(len(one.digest) == 64 for one in found.values())


def test_hundreds_of_runs_are_written_in_parts(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_MOST_AT_ONCE", 2)
    monkeypatch.setattr(tables, "_MOST_AT_ONCE", 2)
    rows = [row(f"c{n}", box_ap=n / 10) for n in range(5)]
    log(results, *rows)
    log(results, *({**one, "latency_p50_ms": 5.0} for one in rows))
    found = runs(results)[1]
    assert [found[f"c{n}"].data.metrics["bbox_mAP"] for n in range(5)] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert {one.data.metrics["latency_p50_ms"] for one in found.values()} == {5.0}


@WHERE
def test_an_engine_is_a_model_with_the_figures_of_its_data_set(
    where: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the own database and by MLflow's client alike; also where its cell is logged again."""
    if where == "client":
        monkeypatch.setattr(tracking, "_has_tables", lambda *_: False)
    if where != "own":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{results / 'mlflow.db'}?timeout=20")
        monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts by default
    links = {"engine": "/store/engine"}
    evidence = tracking.Evidence(links, FIRST, LAST, "ab" * 32)
    more = {"x": evidence, "y": tracking.Evidence()}
    failed = row("y", status="failed", failed_stage="build", reason="no operator", box_ap=None)
    for ap in (0.5, 0.75):
        rows = [row("x", box_ap=ap, opset=17, runtime_version="1.2"), failed]
        tracking.log_sweep("s", rows, more, results, more=lambda *_: (DATASET, {"a/b.log": "why"}))
        parents, children = runs(results)
        run, client = children["x"], client_of(results)
        (model,) = client.search_logged_models([run.info.experiment_id])
        assert model.name == "x" and model.source_run_id == run.info.run_id
        assert model.status == "READY" and model.params["opset"] == "17"
        assert (
            model.tags["farm.place"] == "/store/engine" and model.tags["farm.sha256"] == "ab" * 32
        )
        assert model.tags["farm.device"] == "a cpu" and model.tags["farm.runtime_version"] == "1.2"
        assert model.tags["mlflow.model.isExternal"] == "true"
        assert where == "client" or model.creation_timestamp == 1_750_000_000_250
        (found,) = {
            (one.dataset_name, one.dataset_digest, one.run_id)
            for one in model.metrics
        }  # fmt: skip
        assert found == (DATASET.name, DATASET.digest, run.info.run_id)
        assert ap in {one.value for one in model.metrics if one.key == "bbox_mAP"}
        assert {one.step for one in (*model.metrics, *run.outputs.model_outputs)} == {0}
        assert [one.model_id for one in run.outputs.model_outputs] == [model.model_id]
        (read,) = run.inputs.dataset_inputs
        assert (read.dataset.name, read.dataset.digest) == (DATASET.name, DATASET.digest)
        assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["a"]
    assert run.info.start_time == 1_750_000_000_250 and run.info.end_time == 1_750_000_009_500
    parent = parents["s"]
    assert parent.info.start_time == run.info.start_time
    assert parent.info.end_time == run.info.end_time
    assert {one.path for one in client.list_artifacts(parent.info.run_id)} >= {"leaderboard.csv"}
    note = tags(children["y"])["mlflow.note.content"]
    assert "**failed** at `build`" in note and "no operator" in note
    assert "**Ship** of m on cpu: `x`" in tags(parent)["mlflow.note.content"]


@WHERE
def test_the_engine_of_a_run_that_another_supersedes_is_no_longer_found(
    where: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "client":
        monkeypatch.setattr(tracking, "_has_tables", lambda *_: False)
    if where != "own":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{results / 'mlflow.db'}?timeout=20")
        monkeypatch.chdir(tmp_path)
    evidence = {"x": tracking.Evidence({"engine": "/store/engine"}, FIRST, LAST, "ab" * 32)}
    for opset in (17, 18):
        tracking.log_sweep("s", [row("x", opset=opset)], evidence, results)
    client = client_of(results)
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.params["opset"] == "18"


def test_a_thousand_models_are_found_page_by_page(results: Path) -> None:
    rows = [row(f"c{n}", box_ap=n / 1000) for n in range(1000)]
    evidence = tracking.Evidence({"engine": "/store/engine"}, FIRST, LAST, "ab" * 32)
    began = time.monotonic()
    tracking.log_sweep("s", rows, dict.fromkeys((one["cell"] for one in rows), evidence), results)
    assert time.monotonic() - began < 60
    client, names, token = client_of(results), set[str](), None
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    while True:
        page = client.search_logged_models([experiment.experiment_id], page_token=token)
        names |= {one.name for one in page}
        if not (token := page.token):
            break
    assert names == {one["cell"] for one in rows}
