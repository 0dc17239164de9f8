"""Runs that earlier versions and interrupted updates left in MLflow: each cell is shown once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from rows import row

from farm.results import tracking
from farm.results.tracking import cells
from farm.results.tracking.database import Database
from farm.results.tracking.server import Server

ENGINE = tracking.Evidence({"engine": "/e"}, 1_750_000_000.25, 1_750_000_009.5, "ab" * 32)
EVIDENCE = dict.fromkeys("xy", ENGINE)


@pytest.fixture(params=["own", "other", "client"])
def place(
    tmp_path: Path,
    tracked: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Path:
    """Results whose runs are in the own database, in one that the user has named, or in that one
    by MLflow's client, as on a server."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts by default
    (tmp_path / "mlflow.db").write_bytes(tracked.read_bytes())
    if request.param != "own":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}?timeout=20")
    if request.param == "client":
        monkeypatch.setattr(tracking, "_has_tables", lambda *_: False)
    return tmp_path


def log(results: Path, *rows: dict[str, Any]) -> bool:
    return tracking.log_sweep("s", rows, EVIDENCE, results)


def shown(results: Path) -> tuple[MlflowClient, str, list[Run]]:
    """A client, the farm's experiment, and the runs that MLflow's pages show of it."""
    client = MlflowClient(tracking_uri=tracking.tracking_uri(results))
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    own = [run for run in found if run.data.params.get("sweep") != "t"]  # of the database's own
    return client, experiment.experiment_id, own


def by_cell(found: list[Run]) -> dict[str, Run]:
    children = [one for one in found if "farm.cell" in one.data.tags]
    named = {one.data.tags["farm.cell"]: one for one in children}
    assert len(named) == len(children)
    return named


def test_runs_of_a_version_with_other_names_of_metrics_are_replaced(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = row("y", status="failed", reason="why", failed_stage="build", box_ap=None)
    with monkeypatch.context() as before:
        before.setattr(cells, "outer", lambda name: name)
        before.setattr(cells, "VERSION", cells.VERSION - 1)
        before.setattr(tracking, "VERSION", cells.VERSION)
        assert log(place, row("x"), failed)
    old = by_cell(shown(place)[2])
    assert old["x"].data.metrics["box_ap"] == 0.5
    assert log(place, row("x"), failed) and not log(place, row("x"), failed)
    client, experiment, found = shown(place)
    new = by_cell(found)
    assert len(found) == 3
    assert new["x"].data.metrics["bbox_mAP"] == 0.5 and "box_ap" not in new["x"].data.metrics
    removed = client.get_run(old["x"].info.run_id)
    assert removed.info.lifecycle_stage == "deleted"
    assert removed.data.tags["farm.superseded"] == new["x"].info.run_id
    models = {one.source_run_id: one for one in client.search_logged_models([experiment])}
    assert set(models) == {run.info.run_id for run in new.values()}
    names = {one.key for one in models[new["x"].info.run_id].metrics}
    assert names == set(new["x"].data.metrics)


def test_runs_that_others_supersede_and_second_ones_of_a_cell_are_removed(place: Path) -> None:
    """As earlier versions left the former, and an update that was interrupted the latter."""
    log(place, row("x"), row("y"))
    client, experiment, found = shown(place)
    own = by_cell(found)["x"]
    for more in ({"farm.superseded": own.info.run_id}, {}):
        tags = {**own.data.tags, "farm.digest": "", **more}
        client.create_run(experiment, start_time=1, tags=tags)
    tags = {name: text for name, text in own.data.tags.items() if name != "farm.cell"}
    kept = client.create_run(experiment, tags={**tags, "farm.superseded": own.info.run_id})
    (place / "tracked" / "s.json").unlink()
    assert log(place, row("x"), row("y"))
    assert {one.info.run_id for one in shown(place)[2]} == {
        *(one.info.run_id for one in found),
        kept.info.run_id,  # one that its user has restored, and keeps without the cell's tag
    }


def test_a_cell_whose_run_was_removed_gets_another(place: Path) -> None:
    log(place, row("x"), row("y"))
    client, _, found = shown(place)
    old = by_cell(found)
    client.delete_run(old["x"].info.run_id)
    assert log(place, row("x", box_ap=0.25), row("y"))
    new = by_cell(shown(place)[2])
    assert new["x"].data.metrics["bbox_mAP"] == 0.25
    assert new["y"].info.run_id == old["y"].info.run_id


def test_a_copy_of_the_database_gets_what_was_logged_since(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs have the same names as those that the note tells of."""
    log(place, row("x"))
    (place / "copy.db").write_bytes((place / "mlflow.db").read_bytes())
    assert log(place, row("x", box_ap=0.25))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place / 'copy.db'}")
    assert log(place, row("x", box_ap=0.25))
    assert by_cell(shown(place)[2])["x"].data.metrics["bbox_mAP"] == 0.25


class _InterruptedHere(Exception):
    """What ends an update between two of its calls."""


@pytest.mark.parametrize("call", ["children", "write", "finish"])
def test_an_update_that_is_interrupted_leaves_one_parent(
    call: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise _InterruptedHere

    with monkeypatch.context() as dying:
        for kind in (Database, Server):
            dying.setattr(kind, call, interrupted)
        with pytest.raises(_InterruptedHere):
            log(place, row("x"))
    assert log(place, row("x"))
    found = shown(place)[2]
    assert sorted(one.data.tags["farm.kind"] for one in found) == ["cell", "sweep"]
