"""Files of the store: how they are written, and what in their place is left alone."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import pytest

from farm.specs import Ref
from farm.store import Failure, Record, Store
from farm.store.imports import imports, place, write_origin
from farm.store.records import PEAK_GPU, Origin, digest_of, parse_failure, parse_record

KEY, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def record(key: str = KEY) -> Record:
    return Record("export", key, "a op17", {}, {}, {}, 1.5, 100, {"host": "h"})


def publish(store: Store, made: Record, text: str = "onnx") -> None:
    folder = store.work_folder(made.key)
    (folder / "model.onnx").write_text(text)
    store.publish(folder, made)


def test_records_and_failures_are_json_with_a_field_a_line(store: Store) -> None:
    publish(store, record())
    text = (store.path(Ref("export", KEY)) / "record.json").read_text()
    said = json.loads(text)
    assert list(said) == sorted(said) and text.splitlines()[1] == ' "code": "",'
    assert said["digest"] == digest_of(said)
    files = {"files": {"model.onnx": 4}, "digests": {"model.onnx": sha256(b"onnx").hexdigest()}}
    assert said == {**asdict(record()), **files, "digest": said["digest"]}
    failure = Failure("export", OTHER, "a", "why")
    store.record_failure(failure, None)
    text = (store.root / "failed" / f"{OTHER}.json").read_text()
    assert text.splitlines()[1] == ' "stage": "export",' and json.loads(text) == asdict(failure)
    assert store.failure(OTHER) == failure


def test_what_the_oldest_files_lack_is_empty() -> None:
    since = ("files", "left_out", "code", "digests", "parents", "digest", "ended")
    old = {name: value for name, value in asdict(record()).items() if name not in since}
    found = parse_record(json.dumps(old).encode())
    assert [getattr(found, name) for name in since] == [{}, {}, "", {}, {}, "", 0.0]
    failure = parse_failure(b'{"stage": "export", "key": "k", "label": "a", "reason": "why"}')
    assert (failure.kind, failure.limit, failure.seconds, failure.ended) == ("", 0.0, 0.0, 0.0)


def test_the_order_in_a_mapping_changes_no_digest(store: Store) -> None:
    value = {"figures": {"b": 1, "a": 2}, "key": KEY}
    assert digest_of(value) == digest_of({"key": KEY, "figures": {"a": 2, "b": 1}})
    publish(store, replace(record(), figures={"b": 1, "a": 2}))
    found = store.record(Ref("export", KEY))
    assert found is not None and found.figures == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    ("said", "peak"), [(5, 5), (1, 1), (0, 0), (-1, 0), (1.5, 0), (True, 0), ("5", 0), (None, 0)]
)
def test_a_peak_of_gpu_memory_is_a_number_of_bytes(said: object, peak: int) -> None:
    found = replace(record(), node={"host": "h", PEAK_GPU: said}).peak_gpu_bytes
    assert (found, type(found)) == (peak, int)


def test_of_the_folders_of_a_store_those_of_artifacts_are_listed(store: Store) -> None:
    publish(store, record())
    (store.root / "export" / "ab" / "notes").mkdir()
    (store.root / "export" / "ab" / OTHER).write_text("no folder")
    (store.root / "timing-caches" / "12").mkdir(parents=True)
    assert [*store.artifacts()] == [Ref("export", KEY)]


def test_the_root_is_absolute_and_of_the_users_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Store("~/s").root == tmp_path / "s" == Store("s").root


def test_of_two_that_publish_the_first_stays(store: Store) -> None:
    publish(store, record(), "first")
    folder = store.work_folder(KEY)
    (folder / "model.onnx").write_text("the second one")
    store.publish(folder, record())
    assert (store.path(Ref("export", KEY)) / "model.onnx").read_text() == "first"
    assert not folder.exists()


@pytest.mark.parametrize("torn", ["size", "gone", "record"])
def test_a_torn_artifact_is_none_and_gives_way_to_a_whole_one(store: Store, torn: str) -> None:
    publish(store, record(), "first")
    path = store.path(Ref("export", KEY))
    if torn == "size":
        (path / "model.onnx").write_text("f")
    elif torn == "gone":
        (path / "model.onnx").unlink()
    else:
        (path / "record.json").write_text("{")
    assert store.record(Ref("export", KEY)) is None is store.any_record(Ref("export", KEY))
    publish(store, record(), "second")
    assert (path / "model.onnx").read_text() == "second"
    found = store.record(Ref("export", KEY))
    assert found is not None and found.files == {"model.onnx": 6}


def test_the_log_counts_in_no_size_and_a_failures_log_is_found(store: Store) -> None:
    folder = store.work_folder(KEY)
    (folder / "step.log").write_text("so far")
    store.publish(folder, record())
    found = store.record(Ref("export", KEY))
    assert found is not None and found.files == {}
    store.record_failure(Failure("export", OTHER, "a", "why"), None)
    assert store.log_path(Ref("export", OTHER)) == store.root / "failed" / f"{OTHER}.log"
    store.forget(Ref("export", OTHER))
    assert store.failure(OTHER) is None


def test_a_log_that_is_not_there_is_not_kept(store: Store, tmp_path: Path) -> None:
    for log in (None, tmp_path / "gone"):
        store.keep_log(KEY, log)
        assert list((store.root / "failed").iterdir()) == []
    (tmp_path / "log").write_text("x")
    store.keep_log(KEY, tmp_path / "log")
    assert not (tmp_path / "log").exists()
    assert (store.root / "failed" / f"{KEY}.log").read_text() == "x"


def test_folders_of_work_are_apart_and_their_parents_are_made(store: Store) -> None:
    first, second = store.work_folder(KEY), store.work_folder(KEY)
    assert first != second and first.is_dir() and first.parent == store.root / "tmp"
    assert first.name.startswith(f"{KEY}.{socket.gethostname()}.{os.getpid()}.")


def test_a_torn_origin_hides_no_other(store: Store) -> None:
    for digest in ("d1" * 32, "d2" * 32, "d3" * 32):
        folder = place(store, digest)
        assert folder == store.root / "elsewhere" / digest
        folder.mkdir(parents=True)
        write_origin("r.tar.gz", digest, folder)
    for digest in ("d1" * 32, "d3" * 32):
        (place(store, digest) / "origin.json").write_text("[]")
        (found,) = (one for one in imports(store) if one.origin.digest == "d2" * 32)
        assert found.store.root == place(store, "d2" * 32)
    assert str(Origin("n", "0123456789abcdef", 1.0)) == "0123456789ab n"
