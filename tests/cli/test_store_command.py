"""`farm store verify`: every artifact is read, and what is wrong is named, at 80 columns."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from farm.cli import main
from farm.specs import Ref
from farm.store import Record, Store
from farm.store.imports import place, write_origin
from farm.store.upkeep import survey

FIGURES = {"latency_p50_ms": 1.0, "throughput_per_s": 1000.0}
EXPORT, BUILD = Ref("export", "ab" * 32), Ref("build", "cd" * 32)


def publish(store: Store, ref: Ref, label: str = "retinanet.op17.fixed", host: str = "h") -> Path:
    folder = store.work_folder(ref.key)
    (folder / "model.onnx").write_text("onnx")
    node = {"host": host} if host else {"device": "another"}
    store.publish(folder, Record(ref.stage, ref.key, label, FIGURES, {}, {}, 1.0, 1, node))
    return store.path(ref)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FARM_STORE", raising=False)
    found = Store(tmp_path / "r" / "store")
    for ref in (EXPORT, BUILD):
        publish(found, ref)
    return found


def verify(store: Store, *words: str) -> int:
    argv = ["farm", "store", "verify", "--results", str(store.root.parent), *words]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", argv)
        main.main()
    return int(end.value.code or 0)


def test_a_whole_store_ends_with_0(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.work_folder(EXPORT.key)  # of a step under way
    (store.root / "failed").mkdir(exist_ok=True)
    (store.root / "timing-caches" / "ab").mkdir(parents=True)
    assert verify(store) == 0
    assert capsys.readouterr().out == "2 artifacts, 0.0 MiB: all are whole.\n"


def test_what_is_wrong_is_named_by_artifact(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    altered, missing = publish(store, Ref("prepare", "11" * 32)), store.path(BUILD)
    unknown = publish(store, Ref("verify", "22" * 32))
    torn = publish(store, Ref("measure", "33" * 32))
    (altered / "model.onnx").write_text("onnX")
    (missing / "model.onnx").unlink()
    (unknown / "notes.txt").write_text("mine")
    (torn / "record.json").write_text("{")
    assert verify(store) == 1
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line}
    label = "retinanet.op17.fixed"
    assert lines["prepare"] == ["prepare", "1" * 12, label, "model.onnx", "altered"]
    assert lines["build"] == ["build", "cd" * 6, label, "model.onnx", "missing"]
    assert lines["verify"] == ["verify", "2" * 12, label, "notes.txt", "unknown"]
    assert lines["measure"] == ["measure", "3" * 12, "-", "record.json", "altered"]
    assert "export" not in lines and "5 artifacts, 0.0 MiB: 4 of them not whole." in out
    assert "`farm store verify --discard` removes" in out and "remove them by hand" in out
    assert max(map(len, out.splitlines())) <= 80
    assert altered.exists() and torn.exists()


def test_a_file_that_was_found_whole_before_is_read_again(store: Store) -> None:
    """Not even the times and the inode of a file are trusted."""
    path = store.path(EXPORT) / "model.onnx"
    assert verify(store) == 0
    stat = path.stat()
    (store.path(EXPORT) / "checked.json").write_text(
        json.dumps({"record": _digest(store), "files": {"model.onnx": _mark(path, "onnX")}})
    )
    assert stat.st_size == 4 and store.altered(EXPORT) == []
    assert verify(store) == 1


def _mark(path: Path, text: str) -> list[int]:
    path.write_text(text)
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _digest(store: Store) -> str:
    from farm.store import integrity

    record = store.record(EXPORT)
    assert record is not None
    integrity.forget(store.path(EXPORT))
    return record.digest


def test_discard_removes_what_is_altered_alone(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.path(EXPORT) / "model.onnx").write_text("onnX")
    (store.path(BUILD) / "notes.txt").write_text("mine")
    assert verify(store, "--discard") == 1
    out = capsys.readouterr().out
    assert "1 are removed: the next sweep makes them anew." in out
    assert store.record(EXPORT) is None and not store.path(EXPORT).exists()
    assert (store.path(BUILD) / "notes.txt").exists() and store.record(BUILD)
    (store.path(BUILD) / "notes.txt").unlink()
    assert verify(store) == 0


def test_imports_are_read_too_and_discarded_as_a_whole(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place(store, "d1" * 32)
    other = publish(Store(folder), EXPORT, host="")
    write_origin("h200.tar.gz", "d1" * 32, folder)
    assert verify(store) == 0 and "3 artifacts" in capsys.readouterr().out
    (other / "model.onnx").write_text("onnX")
    assert verify(store) == 1
    said = "Of the import h200.tar.gz: remove it with --discard, then import it again."
    assert said in capsys.readouterr().out and folder.exists()
    assert verify(store, "--discard") == 1
    assert "Of the import h200.tar.gz: import it again." in capsys.readouterr().out
    assert not folder.exists() and store.record(EXPORT) and verify(store) == 0


def test_an_artifact_that_cannot_be_read_is_named(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreadable(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("farm.store.integrity.of_file", unreadable)
    assert verify(store) == 1
    assert "unreadable" in capsys.readouterr().out


def test_an_artifact_that_a_sweep_removes_meanwhile_is_none(store: Store) -> None:
    (known, _), *_ = list(survey.artifacts(store))
    shutil.rmtree(store.path(known))
    assert survey.surveyed(store, known) is None


def test_where_there_is_no_store_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(Store(tmp_path / "none" / "store")) == 2
    assert "there is no store here" in capsys.readouterr().err


def test_without_a_command_of_its_own_it_says_which_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["farm", "store"])
        main.main()
    assert end.value.code == 2 and "COMMAND" in capsys.readouterr().err
