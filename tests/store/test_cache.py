"""A driver's view of a store: each record is read once, what is not there is looked for again."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

import farm.store
from farm.specs import Ref
from farm.store import Record, Store
from farm.store.opening import CachedStore

TOOLS = {"openvino": "2026.0", "numpy": "2.0"}


def record_of(number: int) -> Record:
    return Record(
        "build", f"{number:064}", f"cell {number}", {"build_s": 1.5}, {"exported": "x"},
        dict(TOOLS), 2.5, 1 << 20, {"host": "here", "device": "a CPU", "more": []},
    )  # fmt: skip


def publish(store: Store, record: Record) -> Ref:
    folder = store.work_folder(record.key)
    (folder / "engine.bin").write_bytes(b"engine")
    store.publish(folder, record)
    return Ref(record.stage, record.key)


@pytest.fixture
def store(tmp_path: Path) -> CachedStore:
    return CachedStore(tmp_path / "store")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the records that were read from their files."""
    keys: list[str] = []
    original = farm.store.read_record

    def noted(path: Path) -> Record:
        keys.append(path.parent.name)
        return original(path)

    monkeypatch.setattr(farm.store, "read_record", noted)
    return keys


def test_a_record_is_read_once(store: CachedStore, read: list[str]) -> None:
    ref = publish(Store(store.root), record_of(1))
    read.clear()
    found = [store.record(ref), store.any_record(Ref("build", ref.key)), store.record(ref)]
    assert found[0] and found[0] is found[1] is found[2]
    assert read == [ref.key]


def test_a_record_is_the_stores_own_but_for_its_inputs(store: CachedStore) -> None:
    ref = publish(store, record_of(1))
    whole, found = Store(store.root).record(ref), store.record(ref)
    assert whole and found == dataclasses.replace(whole, inputs={})
    assert found.files == {"engine.bin": 6}


def test_a_step_that_is_not_done_is_asked_for_again(store: CachedStore) -> None:
    ref = Ref("build", record_of(1).key)
    assert store.record(ref) is None
    publish(Store(store.root), record_of(1))
    assert store.record(ref)


def test_a_step_that_is_done_again_is_read_again(store: CachedStore) -> None:
    ref = publish(store, record_of(1))
    assert store.record(ref)
    shutil.rmtree(store.path(ref))
    publish(Store(store.root), dataclasses.replace(record_of(1), seconds=9.0))
    store.drop(ref)
    assert (found := store.record(ref)) and found.seconds == 9.0
    shutil.rmtree(store.path(ref))
    publish(store, dataclasses.replace(record_of(1), seconds=8.0))
    assert (found := store.record(ref)) and found.seconds == 8.0
    shutil.rmtree(store.path(ref))
    store.drop(ref)
    assert store.record(ref) is None


def test_what_records_have_in_common_is_kept_once(store: CachedStore) -> None:
    refs = [publish(store, record_of(number)) for number in (1, 2)]
    first, second = (store.record(ref) for ref in refs)
    assert first and second and first.toolchain is second.toolchain == TOOLS
    assert first.node == second.node == record_of(1).node  # with a list: it has no hash


def test_an_imported_record_is_no_work_done_here(store: CachedStore) -> None:
    ref = publish(store, dataclasses.replace(record_of(1), left_out={"engine.bin": 6}))
    assert store.any_record(ref) and store.record(ref) is None


def test_a_cached_store_is_made_once(store: CachedStore) -> None:
    assert CachedStore.of(store) is store
    made = CachedStore.of(Store(store.root))
    assert made.root == store.root and made is not store
