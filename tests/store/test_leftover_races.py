"""What another process removes while a store does: no error, since it was to go."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from farm.specs import Ref
from farm.store import Failure, Record, Store

KEY = "ab" * 32
EXPORT = Ref("export", KEY)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, text: str = "onnx") -> None:
    folder = store.work_folder(KEY)
    (folder / "model.onnx").write_text(text)
    store.publish(folder, Record("export", KEY, "a", {}, {}, {}, 1.5, 100, {"host": "h"}))


@pytest.fixture
def cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in `tmp` is removed as soon as something is moved there, or could not be from there."""
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        try:
            return real(self, target)
        finally:
            shutil.rmtree(target.parent if target.name == "altered" else self, ignore_errors=True)

    monkeypatch.setattr(Path, "rename", rename)


def test_an_artifact_and_an_import_that_are_removed(store: Store, cleaned: None) -> None:
    publish(store)
    assert store.remove(EXPORT) and not store.path(EXPORT).exists()
    folder = store.imports_folder() / "ef"
    folder.mkdir(parents=True)
    store.remove_import(folder.name)
    store.remove_import(folder.name)
    assert not folder.exists() and [*(store.root / "tmp").iterdir()] == []


def test_work_that_came_second(store: Store, cleaned: None) -> None:
    publish(store, "first")
    publish(store, "second")
    assert (store.path(EXPORT) / "model.onnx").read_text() == "first"


def test_a_torn_artifact_that_gives_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, "first")
    (store.path(EXPORT) / "model.onnx").unlink()
    real = Path.exists

    def exists(self: Path) -> bool:
        found = real(self)
        if self == store.path(EXPORT):
            shutil.rmtree(self, ignore_errors=True)  # as the other does right then
        return found

    monkeypatch.setattr(Path, "exists", exists)
    publish(store, "second")
    monkeypatch.undo()
    assert (store.path(EXPORT) / "model.onnx").read_text() == "second"


def test_what_was_kept_of_a_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.record_failure(Failure("export", KEY, "a", "why"), None)
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [*real(path), f"{KEY}.gone"])
    publish(store)
    assert store.failure(KEY) is None and store.record(EXPORT)
