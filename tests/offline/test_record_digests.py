"""The digests of records that travel: packed anew, compared on arrival, kept of what stayed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farm.errors import InputError
from farm.offline import records
from farm.offline.records import small_files
from farm.plan.keys import step_key
from farm.specs import Ref
from farm.store import Record, Store, integrity, read_record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def published(store: Store) -> tuple[Ref, Record]:
    key = step_key("measure", "c0de", {}, [])
    folder = store.work_folder(key)
    (folder / "samples.npy").write_text("samples")
    (folder / "large.bin").write_text("large")
    figures = {"latency_p50_ms": 2.0, "throughput_per_s": 500.0}
    made = Record("measure", key, "a", figures, {}, {}, 1.0, 1, {"host": "h"}, code="c0de")
    store.publish(folder, made)
    record = store.record(ref := Ref("measure", key))
    assert record is not None
    return ref, record


def unpacked(store: Store, folder: Path) -> Path:
    ref, record = published(store)
    for name, data in small_files(record, store.path(ref)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Store(folder / "store").path(ref)


def test_a_packed_record_has_its_own_digest_and_those_of_what_stays(
    store: Store, tmp_path: Path
) -> None:
    ref, whole = published(store)
    place = unpacked(store, tmp_path / "there")
    record = read_record(place / "record.json")
    assert record.files == {"samples.npy": 7} and record.left_out == {"large.bin": 5}
    assert record.digests == whole.digests and set(record.digests) == {"samples.npy", "large.bin"}
    assert record.digest and record.digest != whole.digest and record.foreign
    there = Store(tmp_path / "there" / "store")
    assert there.altered(ref) == [] and there.any_record(ref) == record and not there.record(ref)


@pytest.mark.parametrize("kind", ["figure", "file", "no digest of a file"])
def test_what_was_changed_on_the_way_is_refused(kind: str, store: Store, tmp_path: Path) -> None:
    place = unpacked(store, tmp_path / "there")
    ref = Ref("measure", place.name)
    records._check_record(ref, place / "record.json", {})
    assert not (place / integrity.MEMORY).exists()  # an import's digest is of all its files
    record = json.loads((place / "record.json").read_text())
    if kind == "file":
        (place / "samples.npy").write_text("SAMPLES")
    elif kind == "figure":
        record["figures"]["latency_p50_ms"] = 0.1
    else:
        del record["digests"]["samples.npy"]
    (place / "record.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"changed: .*sha256.*copy it here again"):
        records._check_record(ref, place / "record.json", {})
