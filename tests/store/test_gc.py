"""What is removed from a store, in a folder and in an object store, and what never is."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from conftest import wait_for
from object_stores import Nodes, content, leave

from farm.engine import holding
from farm.engine.holding import REMOVING, announced, held
from farm.errors import InputError
from farm.specs import Ref
from farm.store import Failure, Store
from farm.store.remote import claims
from farm.store.upkeep import gc, needs
from farm.store.upkeep.gc import DAY, HOUR, Kept, Policy

NOW = 1_000_000_000.0


def ref(number: int, stage: str = "build") -> Ref:
    return Ref(stage, f"{number:064x}")


def kept(number: int, size: int = 10, days: float = 2.0, finished: bool = True) -> Kept:
    return Kept(ref(number), size, NOW - days * DAY, finished, (f"{number}",))


def numbers(found: list[Kept]) -> list[int]:
    return [int(one.ref.key, 16) for one in found]


def test_all_that_is_not_needed_goes_the_oldest_first() -> None:
    there = [kept(1), kept(2, days=9), kept(3)]
    assert numbers(gc.chosen(there, {ref(1)}, (), Policy(), NOW)) == [2, 3]


def test_what_is_young_or_claimed_or_not_finished_stays() -> None:
    there = [
        kept(1, days=0.01), kept(2), kept(3, finished=False, days=0.9), kept(4, finished=False),
    ]  # fmt: skip
    assert numbers(gc.chosen(there, (), {ref(2).key}, Policy(), NOW)) == [4]


def test_age_and_size_choose_of_the_rest() -> None:
    there = [kept(1, 10, 40), kept(2, 10, 20), kept(3, 10, 10), kept(4, 100, 50)]
    needed = {ref(4)}
    chosen = [
        numbers(gc.chosen(there, needed, (), policy, NOW))
        for policy in (
            Policy(30 * DAY), Policy(None, 115), Policy(None, 130), Policy(15 * DAY, 115),
            Policy(15 * DAY, 105), Policy(30 * DAY, 1),
        )
    ]  # fmt: skip
    assert chosen == [[1], [1, 2], [], [1, 2], [1, 2, 3], [1, 2, 3]]


def test_a_failure_is_needed_by_the_steps_key() -> None:
    failures = [Kept(Ref("", ref(n).key), 1, NOW - DAY, True, (f"failed/{n}",)) for n in (1, 2)]
    assert numbers(gc.chosen(failures, {ref(1)}, (), Policy(), NOW)) == [2]


@pytest.fixture(params=["folder", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(tmp_path / "store")
    node: Nodes = request.getfixturevalue("node")
    return node("one")


def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all that is there now were two days old."""
    monkeypatch.setattr(gc, "YOUNGEST_S", -1.0)
    monkeypatch.setattr(gc, "_UNFINISHED_S", -1.0)


def test_what_there_is_is_found_and_removed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3):
        leave(store, ref(number), f"engine {number}")
    store.record_failure(Failure("build", ref(4).key, "a", "why"), None)
    store.objects.put(f"build/00/{ref(5).key}/model.onnx", b"of a node that has died")
    store.objects.put("format.json", b"{}")
    there = {one.ref: one for one in gc.inventory(store.objects)}
    assert set(there) == {ref(1), ref(2), ref(3), Ref("", ref(4).key), ref(5)}
    assert [there[ref(1)].finished, there[ref(5)].finished] == [True, False]
    assert there[ref(5)].size == 23 and there[ref(1)].size > 300  # with its record and its log
    aged(monkeypatch)
    now = gc.clock(store.objects)
    assert abs(now - time.time()) < HOUR
    gc.remove(store, gc.chosen([*there.values()], {ref(2)}, (), Policy(), now))
    left = [one.ref for one in gc.inventory(store.objects)]
    assert left == [ref(2)] and content(store, ref(2)) == "engine 2"
    assert store.record(ref(1)) is None is store.failure(ref(4).key)
    assert store.objects.get("format.json") == b"{}"


def test_a_sweep_leaves_what_it_needs_and_is_known_to_run(store: Store) -> None:
    with announced(store, "one", "/a/results", [ref(1), ref(2, "export")]):
        (found,) = needs.read(store.objects)
        taken = gc.claimed(store.objects, gc.clock(store.objects))
        assert gc.running([found], taken) == [found]
    assert (found.sweep, found.results) == ("one", "/a/results")
    assert found.steps == {ref(1), ref(2, "export")} and found.run == pytest.approx(
        time.time(), abs=HOUR
    )
    assert gc.running([found], gc.claimed(store.objects, gc.clock(store.objects))) == []
    with announced(store, "one", "/other/results", [ref(3)]):
        assert {one.results for one in needs.read(store.objects)} == {
            "/a/results",
            "/other/results",
        }
    with announced(store, "one", "/a/results", [ref(4)]):
        pass
    assert {one.steps for one in needs.read(store.objects)} == {
        frozenset({ref(3)}), frozenset({ref(4)}),
    }  # fmt: skip


def test_what_another_holds_is_claimed(store: Store) -> None:
    with held(store, ref(1).key) as own:
        assert own and ref(1).key in gc.claimed(store.objects, gc.clock(store.objects))


def test_a_sweep_waits_for_who_removes(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(holding, "_PAUSE_S", 0.05)
    monkeypatch.setattr(claims, "_ASKED_S", 0.05)
    begun = threading.Event()

    def sweep() -> None:
        with announced(store, "one", "r", [ref(1)]):
            begun.set()

    with held(store, REMOVING) as alone:
        assert alone
        with held(store, REMOVING) as other:
            assert not other
        thread = threading.Thread(target=sweep)
        thread.start()
        wait_for(lambda: needs.read(store.objects))  # it is seen at once by who removes
        assert not begun.wait(0.3)
    thread.join(timeout=60)
    assert begun.is_set()
    said = "`farm gc` is removing what no sweep needs; waiting for it.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("data", [b"", b"{}", b'{"sweep": 1, "results": "r", "steps": {}}'])
def test_a_sweep_whose_needs_are_not_known_lets_nothing_go(store: Store, data: bytes) -> None:
    store.objects.put("sweeps/one.12345678.json", data)
    with pytest.raises(InputError, match=r"sweeps/one.12345678.json is damaged .*run its sweep"):
        needs.read(store.objects)


def test_other_files_beside_the_needs_are_none(store: Store) -> None:
    store.objects.put("sweeps/.one.12345678.json.1.part", b"")
    store.objects.put("sweeps/notes.txt", b"")
    assert needs.read(store.objects) == []


def test_the_steps_of_an_earlier_version_are_found_by_their_records(store: Store) -> None:
    leave(store, ref(1, "prepare"))
    leave(store, ref(2, "export"), "x", **{f"prepare/{ref(1).key}": "00"})
    leave(store, ref(3), "x", **{f"export/{ref(2).key}": "00", "odd": "00"})
    assert gc.with_parents(store, [ref(3), ref(9)]) == {
        ref(1, "prepare"), ref(2, "export"), ref(3), ref(9),
    }  # fmt: skip


def test_a_folder_of_a_store_is_named_by_its_path(tmp_path: Path) -> None:
    objects = Store(tmp_path).objects
    assert objects.url == str(tmp_path) and not objects.has_conditions("x")
    tag = objects.put("a/b", b"1")
    (tmp_path / "c").write_text("2")
    assert objects.put("a/b", tmp_path / "c") != tag and objects.get("a/b") == b"2"
    assert len(objects.download("a/b", tmp_path / "d")) == 64 and objects.entry("a/b").size == 1
    os.symlink(tmp_path / "nothing", tmp_path / "a" / "gone")
    assert [one.name for one in objects.listed("a")] == ["a/b"]
    objects.delete(["a/none", "a/gone"])  # what is not there is passed over
    with pytest.raises(FileNotFoundError):
        objects.get("c/d")
    objects.require_reachable()
    with pytest.raises(InputError, match="there is no such folder"):
        Store(tmp_path / "none").objects.require_reachable()
    for put in (objects.put_if_absent, lambda *words: objects.replace(*words, "tag")):
        with pytest.raises(NotImplementedError):
            put("a", b"")
