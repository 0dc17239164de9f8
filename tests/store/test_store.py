"""The store: done by one rename, or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_for

from farm.engine.claims import remove_stale_work
from farm.specs import Ref
from farm.store import Failure, Record, Store

KEY = "ab" * 32


def record(key: str = KEY) -> Record:
    return Record("export", key, "a op17", {"n": 1}, {}, {}, 1.5, 100, {})


def publish(store: Store, text: str = "onnx") -> None:
    folder = store.work_folder(KEY)
    (folder / "model.onnx").write_text(text)
    store.publish(folder, record())


def test_a_published_step_is_found_with_its_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.record(Ref("export", KEY)) is None
    publish(store)
    found = store.record(Ref("export", KEY))
    assert found is not None and found.figures == {"n": 1} and found.files == {"model.onnx": 4}
    assert (store.path(Ref("export", KEY)) / "model.onnx").read_text() == "onnx"
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_first_of_two_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, "1st.")
    publish(store, "2nd.")
    assert (store.path(Ref("export", KEY)) / "model.onnx").read_text() == "1st."
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_torn_artifact_is_not_done_and_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store)
    (store.path(Ref("export", KEY)) / "model.onnx").write_text("on")
    assert store.record(Ref("export", KEY)) is None
    publish(store)
    assert (store.path(Ref("export", KEY)) / "model.onnx").read_text() == "onnx"


def test_a_torn_record_is_not_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store)
    path = store.path(Ref("export", KEY)) / "record.json"
    path.write_text(path.read_text()[:40])
    assert store.record(Ref("export", KEY)) is None


def test_a_failure_is_kept_until_it_is_forgotten_or_mended(tmp_path: Path) -> None:
    store = Store(tmp_path)
    log = tmp_path / "log"
    log.write_text("why")
    store.record_failure(Failure("export", KEY, "a", "no such operator"), log)
    failure = store.failure(KEY)
    assert failure is not None and failure.reason == "no such operator"
    assert store.log_path(Ref("export", KEY)).read_text() == "why"
    publish(store)
    assert store.failure(KEY) is None
    store.record_failure(Failure("export", KEY, "a", "again"), None)
    store.forget(Ref("export", KEY))
    assert store.failure(KEY) is None


WRITER = """
import sys
from farm.store import Store, Record
store = Store(sys.argv[1])
i = 0
while True:
    key = f"{i:064x}"
    folder = store.work_folder(key)
    (folder / "a").write_bytes(b"x" * 100_000)
    (folder / "b").write_bytes(b"y" * 100_000)
    store.publish(folder, Record("export", key, "", {}, {}, {}, 0.0, 0, {}))
    i += 1
"""


@pytest.mark.parametrize("seconds", [0.05, 0.11, 0.17])
def test_sigkill_leaves_whole_artifacts_and_nothing_else(tmp_path: Path, seconds: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    wait_for(lambda: [*tmp_path.glob("export/*/*/record.json")])
    time.sleep(seconds)  # to end it at different points of its work
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = Store(tmp_path)
    published = list(tmp_path.glob("export/*/*"))
    assert published
    for folder in published:
        found = store.record(Ref("export", folder.name))
        assert found is not None and found.files == {"a": 100_000, "b": 100_000}
    remove_stale_work(store)
    assert list((tmp_path / "tmp").iterdir()) == []
