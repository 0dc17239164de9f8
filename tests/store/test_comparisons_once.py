"""A driver and a step that ask again whether an artifact is whole read no file again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import farm.store
from farm.specs import Ref
from farm.store import Record, Store, integrity
from farm.store.integrity import Alteration
from farm.store.opening import CachedStore

REF = Ref("export", "ab" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "store")
    folder = found.work_folder(REF.key)
    for name in ("a.bin", "b.bin"):
        (folder / name).write_text(name)
    found.publish(folder, Record("export", REF.key, "a", {}, {"x": 1}, {}, 1.5, 9, {"host": "h"}))
    return found


@pytest.fixture
def reads(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from here on."""
    found = list[str]()

    def noting(real: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def call(path: Path) -> Any:
            found.append(path.name)
            return real(path)

        return call

    monkeypatch.setattr(integrity, "of_file", noting(integrity.of_file))
    monkeypatch.setattr(farm.store, "read_record", noting(farm.store.read_record))
    return found


def test_a_step_reads_a_file_once(store: Store, reads: list[str]) -> None:
    for expected in (["record.json", "a.bin", "b.bin"], ["record.json"]):
        assert store.require_whole(REF).files == {"a.bin": 5, "b.bin": 5}
        assert reads == expected
        reads.clear()


def test_a_driver_reads_record_and_files_once(store: Store, reads: list[str]) -> None:
    driver = CachedStore(store.root)
    for expected in (["record.json", "a.bin", "b.bin"], [], []):
        record, found = driver.compared(REF)
        assert record is not None and not record.inputs and found == [] and reads == expected
        reads.clear()
    record, found = driver.compared(REF, anew=True)
    assert record is not None and not record.inputs and found == []
    assert reads == ["record.json", "a.bin", "b.bin"]


def test_a_driver_keeps_no_record_of_what_is_not_whole(store: Store) -> None:
    driver = CachedStore(store.root)
    (store.path(REF) / "a.bin").write_text("other")
    record, found = driver.compared(REF)
    assert record is not None and record.inputs and found == [Alteration("a.bin", "altered")]
    (store.path(REF) / "a.bin").write_text("a.bin")
    assert driver.compared(REF)[1] == []
    (store.path(REF) / "record.json").unlink()
    assert driver.compared(REF, anew=True) == (None, [Alteration("record.json", "missing")])


def test_all_that_is_missing_is_named(store: Store) -> None:
    for name in ("a.bin", "b.bin"):
        (store.path(REF) / name).unlink()
    assert store.altered(REF) == [Alteration(name, "missing") for name in ("a.bin", "b.bin")]
    assert integrity.listed(store.altered(REF)) == "a.bin is missing, and 1 more"
