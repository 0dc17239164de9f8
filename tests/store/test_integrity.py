"""Artifacts against their digests: what was altered is found, and no file is read twice for it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import full_disk

from farm.errors import AlteredArtifact, TransientFailure
from farm.specs import Ref
from farm.stages import Context
from farm.store import Record, Store, integrity
from farm.store.integrity import Alteration
from farm.store.records import digest_of, read_record

KEY, OTHER = "ab" * 32, "cd" * 32
EXPORT = Ref("export", KEY)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def publish(store: Store, stage: str = "export", key: str = KEY, **files: str) -> Path:
    """An artifact whose files changed a minute ago, so that their times can be trusted."""
    folder = store.work_folder(key)
    (folder / "engine").mkdir()
    for name, text in {"model.onnx": "onnx", "engine/a.bin": "1234", **files}.items():
        (folder / name).write_text(text)
    (folder / "step.log").write_text("log")
    store.publish(folder, Record(stage, key, "a op17", {}, {}, {}, 1.5, 100, {"host": "h"}))
    return store.path(Ref(stage, key))


def rewrite(path: Path, **changes: object) -> None:
    """Change a record as an editor does: its digest stays."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute after the files were written."""
    now = integrity.time.time_ns
    monkeypatch.setattr(integrity.time, "time_ns", lambda: now() + 60_000_000_000)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read for their digests, in order."""
    found: list[str] = []
    of_file = integrity.of_file

    def noting(path: Path) -> str:
        found.append(path.name)
        return of_file(path)

    monkeypatch.setattr(integrity, "of_file", noting)
    return found


def in_another_process() -> None:
    integrity._known.clear()


ALTERATIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda f: (f / "model.onnx").write_text("onnX"), "model.onnx is altered"),
    "shorter": (lambda f: (f / "model.onnx").write_text("on"), "model.onnx is altered"),
    "in a folder": (lambda f: (f / "engine/a.bin").write_text("1243"), "engine/a.bin is altered"),
    "missing": (lambda f: (f / "model.onnx").unlink(), "model.onnx is missing"),
    "a folder missing": (lambda f: shutil.rmtree(f / "engine"), "engine/a.bin is missing"),
    "all files": (
        lambda f: [(f / n).write_text("xxxx") for n in ("model.onnx", "engine/a.bin")],
        "engine/a.bin is altered, and 1 more",
    ),
    "a figure": (lambda f: rewrite(f / "record.json", seconds=0.1), "record.json is altered"),
    "its label": (lambda f: rewrite(f / "record.json", label="b"), "record.json is altered"),
    "its own digest": (
        lambda f: rewrite(f / "record.json", digest="0" * 64), "record.json is altered",
    ),
    "no digest of its own": (
        lambda f: rewrite(f / "record.json", digest=""),
        "record.json is without digests, as earlier versions wrote it",
    ),
    "no record": (lambda f: (f / "record.json").unlink(), "record.json is missing"),
    "torn": (lambda f: (f / "record.json").write_text("{"), "record.json is altered"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_what_was_altered_is_named_and_the_artifact_made_anew(
    kind: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    alter, said = ALTERATIONS[kind]
    folder = publish(store)
    assert store.altered(EXPORT) == [] and store.require_whole(EXPORT) == store.record(EXPORT)
    alter(folder)
    assert integrity.listed(store.altered(EXPORT)) == said
    capsys.readouterr()
    with pytest.raises(AlteredArtifact) as error:
        store.require_whole(EXPORT)
    assert error.value.ref == EXPORT and error.value.what == said
    assert f"export {KEY[:12]}: {said}; it is made anew" in capsys.readouterr().err
    assert store.record(EXPORT) is None and not folder.exists()
    assert list((store.root / "tmp").iterdir()) == []
    publish(store)
    assert store.require_whole(EXPORT) == store.record(EXPORT)


def test_a_record_of_another_step_in_its_place_is_none(store: Store) -> None:
    own = publish(store)
    other = publish(store, key=OTHER)
    shutil.copyfile(other / "record.json", own / "record.json")
    assert store.record(EXPORT) is None
    assert store.altered(EXPORT) == [Alteration("record.json", "that of another step")]
    publish(store, "build")
    shutil.copyfile(store.path(Ref("build", KEY)) / "record.json", own / "record.json")
    assert store.record(EXPORT) is None and store.altered(EXPORT)


def test_a_whole_record_is_more_than_its_figures(store: Store) -> None:
    """Somebody who changes a file, its digest, and the size, changes the record."""
    folder = publish(store)
    (folder / "model.onnx").write_text("other")
    record = json.loads((folder / "record.json").read_text())
    record["files"]["model.onnx"] = 5
    record["digests"]["model.onnx"] = sha256(b"other").hexdigest()
    (folder / "record.json").write_text(json.dumps(record))
    assert store.record(EXPORT) is None
    (folder / "record.json").write_text(json.dumps({**record, "digest": digest_of(record)}))
    assert store.record(EXPORT) is not None  # a forger is not found out; see farm.store.records


def test_an_artifact_that_is_not_there_is_no_fault_of_the_step(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AlteredArtifact, match=r"record\.json is missing") as error:
        store.require_whole(EXPORT)
    assert isinstance(error.value, TransientFailure) and capsys.readouterr().err == ""
    copy = pickle.loads(pickle.dumps(error.value))
    assert (copy.ref, copy.what, str(copy)) == (EXPORT, "record.json is missing", str(error.value))


def test_what_was_made_anew_meanwhile_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two steps that find the same alteration the second must not remove what is whole again."""
    (publish(store) / "model.onnx").write_text("onnX")
    compared, looks = Store.compared, []

    def slow(self: Store, ref: Ref, anew: bool = False) -> object:
        found = compared(self, ref, anew)
        looks.append(found)
        if len(looks) == 1:
            store.remove(ref)
            publish(store)
        return found

    monkeypatch.setattr(Store, "compared", slow)
    assert store.require_whole(EXPORT).files and len(looks) == 2
    assert store.record(EXPORT) and capsys.readouterr().err == ""


def test_a_file_is_read_once_and_again_when_it_changed(
    store: Store, later: None, reads: list[str]
) -> None:
    folder = publish(store)
    reads.clear()
    assert store.altered(EXPORT) == [] and reads == ["a.bin", "model.onnx"]
    assert store.altered(EXPORT) == [] == store.altered(EXPORT) and len(reads) == 2
    in_another_process()
    assert store.altered(EXPORT) == [] and len(reads) == 2
    assert store.altered(EXPORT, anew=True) == [] and len(reads) == 4
    stat = (folder / "model.onnx").stat()
    (folder / "model.onnx").write_text("onnX")
    os.utime(folder / "model.onnx", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if unchanged
    assert store.altered(EXPORT) == [Alteration("model.onnx", "altered")]
    assert reads[4:] == ["model.onnx"]
    (folder / "model.onnx").write_text("onnx")
    assert store.altered(EXPORT) == []


def test_a_file_that_has_just_changed_is_not_trusted_by_other_processes(
    store: Store, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    reads.clear()
    assert store.altered(EXPORT) == [] == store.altered(EXPORT) and len(reads) == 2
    in_another_process()
    assert store.altered(EXPORT) == [] and len(reads) == 4
    assert not (store.path(EXPORT) / integrity.MEMORY).exists()
    now = integrity.time.time_ns
    monkeypatch.setattr(integrity.time, "time_ns", lambda: now() + 60_000_000_000)
    assert store.altered(EXPORT) == [] and len(reads) == 4  # it was read too early to be told
    assert not (store.path(EXPORT) / integrity.MEMORY).exists()
    in_another_process()
    assert store.altered(EXPORT) == [] and len(reads) == 6
    assert (store.path(EXPORT) / integrity.MEMORY).exists()


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(store)
    of_file = integrity.of_file

    def overtaken(path: Path) -> str:
        digest = of_file(path)
        path.write_text("edam")
        return digest

    monkeypatch.setattr(integrity, "of_file", overtaken)
    assert Alteration("model.onnx", "altered") in store.altered(EXPORT)
    assert (folder / "model.onnx").read_text() == "edam"


MEMORIES = [b"", b"{", b"[]", b"{}", b'{"record": "x", "files": {"model.onnx": 3}}', b"\xff"]


@pytest.mark.parametrize("damaged", MEMORIES)
def test_a_damaged_memory_is_made_again(
    damaged: bytes, store: Store, later: None, reads: list[str]
) -> None:
    memory = publish(store) / integrity.MEMORY
    assert store.altered(EXPORT) == []
    whole = memory.read_bytes()
    memory.write_bytes(damaged)
    in_another_process()
    reads.clear()
    assert store.altered(EXPORT) == [] and len(reads) == 2
    assert memory.read_bytes() == whole


def test_the_memory_of_another_record_counts_for_nothing(
    store: Store, later: None, reads: list[str]
) -> None:
    folder = publish(store)
    assert store.altered(EXPORT) == []
    record = json.loads((folder / "record.json").read_text())
    record["digests"]["model.onnx"] = sha256(b"none").hexdigest()
    (folder / "record.json").write_text(json.dumps({**record, "digest": digest_of(record)}))
    assert store.altered(EXPORT) == [Alteration("model.onnx", "altered")]


def test_a_store_that_cannot_be_written_is_read_all_the_same(
    store: Store, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store)
    monkeypatch.setattr(integrity.atomic, "write", lambda *_, **__: full_disk())
    assert store.altered(EXPORT) == []


def test_what_a_process_remembers_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_MOST_KNOWN", 3)
    for digit in "12345":
        publish(store, key=digit * 64)
        assert store.altered(Ref("export", digit * 64)) == []
        assert len(integrity._known) <= 3


def test_files_that_no_step_left_are_named(store: Store) -> None:
    folder = publish(store)
    record = read_record(folder / "record.json")
    assert integrity.unknown(folder, record) == []
    (folder / "checked.json").write_text("{}")
    (folder / ".checked.json.12.ab.part").write_text("{}")
    (folder / "engine" / "cache.bin").write_text("x")
    (folder / "link").symlink_to("nowhere")
    found = integrity.unknown(folder, record)
    assert [str(one) for one in found] == ["engine/cache.bin is unknown", "link is unknown"]
    assert store.altered(EXPORT) == []  # they change nothing of what is there


def test_a_step_notes_the_artifacts_that_it_reads(store: Store, tmp_path: Path) -> None:
    publish(store)
    publish(store, "prepare", OTHER, **{"model.onnx": "other"})
    context = Context(store, tmp_path, 1)
    assert context.artifact(EXPORT) == store.path(EXPORT)
    first = dict(context.parents)
    context.artifact(Ref("prepare", OTHER))
    assert list(context.parents) == [f"export/{KEY}", f"prepare/{OTHER}"]
    assert len({*context.parents.values()}) == 2
    # The same files made again are the same parent; other ones are not.
    store.remove(EXPORT)
    publish(store)
    again = Context(store, tmp_path, 1)
    again.artifact(EXPORT)
    assert again.parents == first
    (store.path(EXPORT) / "model.onnx").write_text("onnX")
    with pytest.raises(AlteredArtifact):
        again.artifact(EXPORT)


READER = """
import sys
from farm.specs import Ref
from farm.store import Store, integrity
integrity.of_file = lambda path: sys.exit(f"reads {path.name}")
assert Store(sys.argv[1]).altered(Ref("export", sys.argv[2])) == []
"""


def test_another_process_reads_nothing_again(store: Store, later: None) -> None:
    folder = publish(store)
    assert store.altered(EXPORT) == []
    words = [sys.executable, "-c", READER, str(store.root), KEY]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / integrity.MEMORY).unlink()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "reads a.bin" in done.stderr


def test_a_large_file_has_the_digest_of_all_its_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 12345)
    (tmp_path / "large").write_bytes(data)
    assert integrity.of_file(tmp_path / "large") == sha256(data).hexdigest()


def test_records_of_earlier_versions_are_read_where_they_were_imported(store: Store) -> None:
    """They have no digests: as work done here they do not count, as imports they do."""
    folder = publish(store)
    whole = json.loads((folder / "record.json").read_text())
    old = {name: whole[name] for name in whole if name not in ("digests", "digest", "parents")}
    (folder / "record.json").write_text(json.dumps(old))
    assert store.record(EXPORT) is None is store.any_record(EXPORT) and store.altered(EXPORT)
    (folder / "record.json").write_text(json.dumps({**old, "node": {"device": "x"}}))
    found = store.any_record(EXPORT)
    assert store.record(EXPORT) is None and found is not None and store.altered(EXPORT) == []
    assert replace(found, node={}).foreign is False and found.foreign
    (folder / "model.onnx").write_text("on")
    assert store.altered(EXPORT) == [Alteration("model.onnx", "altered")]  # by its size alone
