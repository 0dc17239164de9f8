"""The folder of a node: of a bounded size, and never without what a step uses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from object_stores import CHILD, REF, Nodes, content, leave

from farm.errors import InputError
from farm.specs import Ref
from farm.store import Store
from farm.store.remote import node as nodes
from farm.store.remote.node import NodeFolder, most_bytes

PROJECT = Path(__file__).parents[3]
REFS = [Ref("export", f"{number:064x}") for number in range(4)]


def kept(store: Store) -> set[Ref]:
    return {ref for ref in REFS if store.path(ref).exists()}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used a moment ago may go, too."""
    monkeypatch.setattr(nodes, "_LEFT_S", -1.0)


def test_what_was_used_longest_ago_goes_first(node: Nodes) -> None:
    one = node("one")
    for ref in REFS:
        leave(one, ref, "x" * 4000)
    two = node("two", 15_000)  # three of them, with their records
    for number, ref in enumerate([*REFS[:3], REFS[0], REFS[3]]):
        two.files(ref)
        os.utime(two.root / "locks" / ref.key, (number, number))
    two.node.trim()
    assert kept(two) == {REFS[0], REFS[2], REFS[3]}
    assert content(two, REFS[1]) == "x" * 4000  # it comes again


def test_what_a_step_reads_and_writes_stays(node: Nodes) -> None:
    one = node("one")
    for ref in REFS[:2]:
        leave(one, ref, "x" * 4000)
    two = node("two", 1)
    with two.on_this_node(CHILD, REFS[:2]) as here:
        two.node.trim()
        assert kept(two) == set(REFS[:2])
        leave(here, CHILD, "made of both")
    assert content(one, CHILD) == "made of both"
    two.node.trim()
    assert kept(two) == set() and not two.path(CHILD).exists()


def test_room_is_made_while_artifacts_arrive(node: Nodes) -> None:
    one = node("one")
    for ref in REFS:
        leave(one, ref, "x" * 4000)
    two = node("two", 10_000)
    for ref in REFS:
        two.files(ref)
    assert REFS[3] in kept(two) and len(kept(two)) <= 2


def test_what_was_used_a_moment_ago_stays(node: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_LEFT_S", 60.0)
    leave(node("one"))
    two = node("two", 1)
    two.files(REF)
    two.node.trim()
    assert two.path(REF).exists()


def test_the_folder_is_trimmed_when_a_twentieth_of_it_was_added_for_each_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process counts what it adds itself, and there may be one for each core."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    folder = NodeFolder(tmp_path, 20 * 4 * 100)

    def is_trimmed(added: int) -> bool:
        (tmp_path / "tmp" / "left").mkdir(parents=True)  # by a dead process
        folder.added(added)
        folder.make_room()
        trimmed = not (tmp_path / "tmp" / "left").exists()
        folder.remove_abandoned()
        return trimmed

    found = [is_trimmed(size) for size in (0, 0, 99, 1, 99, 1)]
    assert found == [True, False, False, True, False, True]  # it is not known what was there


def test_what_fits_to_the_byte_stays(node: Nodes) -> None:
    for ref in REFS[:2]:
        leave(node("one"), ref)
    folder = node("one").root
    size = sum(one.stat().st_size for one in folder.rglob(f"*/{'?' * 64}/**/*") if one.is_file())
    NodeFolder(folder, size).trim()
    assert kept(node("one")) == set(REFS[:2])
    NodeFolder(folder, size - 1).trim()
    assert len(kept(node("one"))) == 1
    assert [*(folder / "locks").iterdir()] == []  # nor is one left of what is gone


def test_the_folder_of_locks_may_be_made_by_two_processes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = NodeFolder(tmp_path / "new" / "node", 1), os.open

    def opened(path: Path, *words: int) -> int:
        monkeypatch.undo()
        folder._lock("ab").parent.mkdir(parents=True)  # right after it was seen to be missing
        raise FileNotFoundError

    monkeypatch.setattr(os, "open", opened)
    with folder.held(["ab"]):
        assert folder._lock("ab").exists()
    with NodeFolder(tmp_path / "alone" / "node", 1).held(["ab"]):
        assert real is os.open


HOLD = """
import sys
from pathlib import Path
from farm.store import Store
from farm.store.remote.node import NodeFolder
with NodeFolder(Path(sys.argv[1]), 1).held(["ab" * 32]):
    Store(sys.argv[1]).work_folder("ab" * 32)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_working_folders_of_dead_processes_go(tmp_path: Path) -> None:
    folder = NodeFolder(tmp_path, 1 << 20)
    assert folder.remove_abandoned() == 0
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT,
    )  # fmt: skip
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert folder.remove_abandoned() == 0 and [*(tmp_path / "tmp").iterdir()]
    finally:
        other.kill()
        other.communicate()
    assert folder.remove_abandoned() == 1 and not [*(tmp_path / "tmp").iterdir()]


def test_an_artifact_is_downloaded_once_at_a_time(node: Nodes) -> None:
    leave(node("one"), text="x" * 1000)
    two = node("two")
    asked: list[str] = []
    original = two.objects.download

    def download(name: str, path: Path) -> str:
        asked.append(name)
        return original(name, path)

    two._objects = _With(two.objects, download)  # type: ignore[assignment]
    threads = [threading.Thread(target=content, args=(two,)) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(asked) == 1 and content(two) == "x" * 1000


class _With:
    """Objects with a `download` of their own."""

    def __init__(self, objects: object, download: object) -> None:
        self._objects, self.download = objects, download

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)


def test_the_size_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FARM_CACHE_SIZE", raising=False)
    assert most_bytes() == 50 << 30
    monkeypatch.setenv("FARM_CACHE_SIZE", "1GiB")
    assert most_bytes() == 1 << 30
    monkeypatch.setenv("FARM_CACHE_SIZE", "much")
    with pytest.raises(InputError, match="FARM_CACHE_SIZE: 'much' is not a size"):
        most_bytes()
