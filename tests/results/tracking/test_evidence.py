"""What MLflow is told of a cell beside its row: times, its engine's digest, data set and log."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from rows import row

from farm.results.tracking.evidence import dataset_of, evidence_of, log_of, small_onnx_of
from farm.specs import Ref
from farm.store import Failure, Record, Store

KEYS = {
    f"{stage}_key": f"{number}" * 64
    for number, stage in enumerate(("prepare", "export", "build", "evaluate", "measure", "compare"))
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, stage: str, *files: str, **values: Any) -> str:
    """Publish a step, and return its key."""
    key = KEYS[f"{stage}_key"]
    folder = store.work_folder(key)
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    own: dict[str, Any] = {"figures": {}, "inputs": {}, "seconds": 1.0, **values}
    node = {"host": "h"}
    store.publish(
        folder, Record(stage, key, stage, toolchain={}, peak_host_bytes=1, node=node, **own)
    )
    return key


def test_the_work_on_an_engine_is_of_the_steps_that_run_it_alone(store: Store) -> None:
    publish(store, "export", "model.onnx", ended=100.0)  # for several engines
    publish(store, "build", "engine", ended=200.0, seconds=20.0)
    publish(store, "evaluate", ended=300.0, seconds=150.0)
    speed = {"latency_p50_ms": 1.0, "throughput_per_s": 9.0}
    publish(store, "measure", ended=250.0, seconds=2.0, figures=speed)
    publish(store, "compare", ended=900.0, figures={"entrants": {}})  # of several engines
    found = evidence_of(row("x", **KEYS), store)
    assert (found.began, found.ended) == (150.0, 300.0)
    assert found.links == {
        "onnx": str(store.path(Ref("export", KEYS["export_key"])) / "model.onnx"),
        "engine": str(store.path(Ref("build", KEYS["build_key"])) / "engine"),
    }
    imported = evidence_of(row("x", **KEYS, origin="abcd a pack"), store)
    assert (imported.links, imported.began, imported.ended, imported.sha256) == ({}, *[None] * 3)


def test_a_step_that_has_failed_counts_and_one_without_a_time_does_not(store: Store) -> None:
    publish(store, "build", "engine", ended=0.0)  # of an earlier version
    nothing = evidence_of(row("x", **KEYS), store)
    assert (nothing.began, nothing.ended) == (None, None)
    key = KEYS["evaluate_key"]
    store.record_failure(Failure("evaluate", key, "x", "no", seconds=5.0, ended=400.0), None)
    found = evidence_of(row("x", **KEYS, failed_stage="evaluate"), store)
    assert (found.began, found.ended) == (395.0, 400.0)
    for other in ({}, {"failed_stage": "measure"}):
        assert evidence_of(row("x", **KEYS, **other), store).began is None
    store.record_failure(Failure("evaluate", key, "x", "no"), None)
    assert evidence_of(row("x", **KEYS, failed_stage="evaluate"), store).began is None


@pytest.mark.parametrize("files", [("engine",), ("engine/a", "engine/b"), ("engine", "notes")])
def test_the_digest_of_an_engine_is_of_its_file_or_of_the_list_of_its_files(
    files: tuple[str, ...], store: Store
) -> None:
    assert evidence_of(row("x", **KEYS), store).sha256 is None
    key = publish(store, "build", *files)
    record = store.record(Ref("build", key))
    assert record is not None
    one = hashlib.sha256(b"engine").hexdigest()
    expected = record.content if "engine/a" in files else one
    assert evidence_of(row("x", **KEYS), store).sha256 == expected
    assert evidence_of(row("x", **{**KEYS, "build_key": None}), store).sha256 is None


def test_a_data_set_is_named_by_its_type_and_images_and_has_a_digest_of_what_it_is(
    store: Store,
) -> None:
    assert dataset_of(row("x", **KEYS), store) is None
    own = {"type": "coco", "annotations": "a.json"}
    publish(store, "prepare", inputs={"dataset": own}, figures={"images": 5})
    found = dataset_of(row("x", **KEYS), store)
    assert found is not None and found.name == "coco, 5 images"
    assert json.loads(found.source) == own and [*json.loads(found.source)] == sorted(own)
    assert found.digest == hashlib.sha256(found.source.encode()).hexdigest()[:32]
    assert dataset_of(row("x"), store) is None


@pytest.mark.parametrize("dataset", [None, [], "coco", {"type": None}, {}])
def test_a_data_set_without_a_type_is_called_a_data_set(dataset: Any, store: Store) -> None:
    publish(store, "prepare", inputs={"dataset": dataset}, figures={"images": 5})
    found = dataset_of(row("x", **KEYS), store)
    name = "data set, 5 images" if isinstance(dataset, dict) else None
    assert (found and found.name) == name


def test_the_log_is_of_the_step_that_a_cell_has_failed_at(store: Store, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("why")
    key = KEYS["build_key"]
    store.record_failure(Failure("build", key, "x", "no"), tmp_path / "log")
    path = log_of(row("x", **KEYS, failed_stage="build"), store)
    assert path is not None and path.read_text() == "why"
    for other in ({}, {"failed_stage": "measure"}, {"failed_stage": "verify"}):
        assert log_of(row("x", **KEYS, **other), store) is None


def test_the_onnx_file_of_a_converted_cell_is_the_converted_one(store: Store) -> None:
    publish(store, "export", "model.onnx")
    key = KEYS["export_key"]
    assert small_onnx_of(row("x", export_key=key), store) == (
        store.files(Ref("export", key)) / "model.onnx"
    )
    assert small_onnx_of(row("x", export_key=key, convert_key="9" * 64), store) is None
    assert small_onnx_of(row("x"), store) is None
