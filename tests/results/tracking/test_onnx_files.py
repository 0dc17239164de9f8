"""`mlflow: {artifacts: true}`: a cell's small ONNX file is an artifact of its engine in MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModel
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from rows import row

from farm.results import leaderboard, tracking
from farm.results.tracking import evidence, follower
from farm.results.tracking.follower import Tracker
from farm.store import Record, Store

if TYPE_CHECKING:
    from farm.results.columns import Row

More = Callable[..., tuple[Any, dict[str, "Path | str"]]]

EXPORT, BUILD = "1" * 64, "2" * 64


def publish(store: Store, stage: str, key: str, leave: Callable[[Path], object]) -> None:
    folder = store.work_folder(key)
    leave(folder)
    store.publish(folder, Record(stage, key, stage, {}, {}, {}, 1.0, 1_750_000_000, {"host": "h"}))


def leave_onnx(folder: Path) -> None:
    ends = [make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy"]
    graph = make_graph([make_node("Neg", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(make_model(graph, opset_imports=[make_opsetid("", 17)]), str(folder / "model.onnx"))


def leave_engine(folder: Path) -> None:
    (folder / "engine").mkdir()
    (folder / "engine" / "plan").write_bytes(b"an engine")


@pytest.fixture
def results(tmp_path: Path, tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts by default
    (tmp_path / "mlflow.db").write_bytes(tracked.read_bytes())
    store = Store(tmp_path / "store")
    publish(store, "export", EXPORT, leave_onnx)
    publish(store, "build", BUILD, leave_engine)
    asked_for(True, tmp_path)
    return tmp_path


@pytest.fixture
def finish(results: Path) -> Iterator[Callable[[], None]]:
    """Logs a sweep of two cells, one of which has no engine, as at its end."""
    made: list[Tracker] = []

    def logged() -> None:
        rows = cells(results)
        made.append(Tracker("s", results, Store(results / "store")))
        made[-1].close(rows)

    yield logged
    for one in made:
        one.kill()


def cells(results: Path) -> list[Row]:
    failed = {"status": "failed", "failed_stage": "build", "reason": "no kernel"}
    rows = [row("x", export_key=EXPORT, build_key=BUILD), row("y", export_key=EXPORT, **failed)]
    leaderboard.write(rows, results, "s")
    return leaderboard.of_sweep(results, "s")


def log_by_client(
    results: Path, monkeypatch: pytest.MonkeyPatch, more: More = follower._more
) -> None:
    """Log the same by MLflow's client, as to a server."""
    monkeypatch.setattr(tracking, "_has_tables", lambda *_: False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{results / 'mlflow.db'}?timeout=20")
    rows, store = cells(results), Store(results / "store")
    known = {one["cell"]: evidence.evidence_of(one, store) for one in rows}
    tracking.log_sweep("s", rows, known, results, more=partial(more, store))


def asked_for(artifacts: bool, results: Path) -> None:
    values = {"name": "s", "mlflow": {"artifacts": artifacts}}
    kept: dict[str, Any] = {"matrix": str(results / "m.yaml"), "values": values, "text": ""}
    (results / "sweeps").mkdir(exist_ok=True)
    (results / "sweeps" / "s.json").write_text(json.dumps(kept))


def found(results: Path) -> tuple[MlflowClient, LoggedModel, dict[str, str]]:
    """A client, the one engine, and the runs of the cells."""
    client = MlflowClient(tracking_uri=tracking.tracking_uri(results))
    experiment = client.get_experiment_by_name("farm")
    assert experiment is not None
    (model,) = client.search_logged_models([experiment.experiment_id])
    runs = client.search_runs([experiment.experiment_id], "params.sweep = 's'")
    return client, model, {r.data.tags.get("farm.cell", ""): r.info.run_id for r in runs}


@pytest.mark.parametrize("where", ["own", "client"])
def test_the_file_is_an_artifact_of_the_engine_and_runs(
    where: str, results: Path, finish: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "own":
        finish()
    else:
        log_by_client(results, monkeypatch)
    client, model, runs = found(results)
    assert model.source_run_id == runs["x"]
    names = {one.path for one in client.list_logged_model_artifacts(model.model_id)}
    assert names == {"MLmodel", "model.onnx"}
    folder = download_artifacts(
        artifact_uri=f"{model.artifact_location}/model.onnx", dst_path=str(results / "got")
    )
    proto = onnx.load(folder)
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (answer,) = session.run(None, {"x": np.array([1, -2], np.float32)})
    assert answer.tolist() == [-1, 2]
    # A cell without an engine has it among the artifacts of its run, and no other has it there.
    listed = {cell: [f.path for f in client.list_artifacts(run)] for cell, run in runs.items()}
    assert "model.onnx" in listed["y"] and "model.onnx" not in listed["x"]


def test_a_file_that_is_gone_is_missed_in_its_cell_alone(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def more(store: Store, one: Row, copies: bool) -> tuple[Any, dict[str, Path | str]]:
        dataset, files = follower._more(store, one, copies)
        gone = {"gone": results / "gone"} if one["cell"] == "x" else {"there": "a text"}
        return dataset, {**files, **gone}

    log_by_client(results, monkeypatch, more)
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("MLflow has no files of x: FileNotFoundError: ")
    client, _, runs = found(results)
    names = {one.path for one in client.list_artifacts(runs["y"])}
    assert {"model.onnx", "there"} <= names


def test_a_sweep_that_asks_for_them_later_gets_them_when_it_is_run_again(
    results: Path, finish: Callable[[], None]
) -> None:
    asked_for(False, results)
    finish()
    client, model, runs = found(results)
    assert [one.path for one in client.list_logged_model_artifacts(model.model_id)] == ["MLmodel"]
    asked_for(True, results)
    finish()
    client, again, same = found(results)
    assert (again.model_id, same) == (model.model_id, runs)
    assert len(client.list_logged_model_artifacts(model.model_id)) == 2


def test_a_file_of_more_than_50_mib_stays_in_the_store_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def leave(size: int, folder: Path) -> None:
        with (folder / "model.onnx").open("wb") as file:
            file.truncate(size)

    for number, size in (("3", 50 << 20), ("4", (50 << 20) + 1)):
        publish(store, "export", number * 64, partial(leave, size))
    publish(store, "export", "5" * 64, lambda folder: (folder / "other").write_text("x"))
    small, large = (row("x", export_key=number * 64) for number in "34")
    path = evidence.small_onnx_of(small, store)
    assert path is not None and path.stat().st_size == 50 << 20
    assert evidence.small_onnx_of(large, store) is None
    assert evidence.small_onnx_of(row("x", export_key="5" * 64), store) is None
    assert evidence.small_onnx_of(small | {"origin": "abcd import"}, store) is None
