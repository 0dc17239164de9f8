"""The files by which sweeps say what they need of a store, and what of it is claimed."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from farm.specs import Ref
from farm.store.folder import FolderObjects
from farm.store.upkeep import gc, needs
from farm.store.upkeep.gc import DAY, HOUR, Kept, Policy

NOW = 1_000_000_000.0
KEY = "ab" * 32


def test_a_sweep_is_known_by_its_name_and_its_results(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    needs.write(objects, "one", "/a/results", [Ref("export", KEY), Ref("build", KEY)])
    name = f"one.{sha256(b'/a/results').hexdigest()[:8]}"
    assert needs.id_of("one", "/a/results") == name
    assert [one.name for one in objects.listed("sweeps")] == [f"sweeps/{name}.json"]
    (found,) = needs.read(objects)
    assert (found.id, found.sweep, found.results) == (name, "one", "/a/results")
    needs.forget(objects, [found])
    assert needs.read(objects) == []


def test_the_sweep_that_was_run_last_comes_first(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    for number, moment in enumerate((5, 9, 7)):
        needs.write(objects, f"{number}", "r", [])
        file = tmp_path / "sweeps" / f"{needs.id_of(f'{number}', 'r')}.json"
        os.utime(file, (moment, moment))
    assert [(one.sweep, one.run) for one in needs.read(objects)] == [("1", 9), ("2", 7), ("0", 5)]


def test_a_file_of_another_name_is_none(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    for name in ("json", ".hidden.json", "one.12345678.json.part", "one.12345678"):
        objects.put(f"sweeps/{name}", b"")
    assert needs.read(objects) == []


def test_old_claims_count_while_any_session_is_young(tmp_path: Path) -> None:
    """Sessions are put again and again; a claim is put once, by a process that may run for days."""
    objects = FolderObjects(tmp_path)

    def put(name: str, age: float) -> None:
        objects.put(f"claims/{name}", b"")
        os.utime(tmp_path / "claims" / name, (NOW - age, NOW - age))

    put("old", DAY)
    put("of an hour", HOUR)
    put("young", HOUR - 1)
    put("sessions/1a", HOUR)
    assert gc.claimed(objects, NOW) == {"young"}
    put("sessions/1a", HOUR - 1)
    assert gc.claimed(objects, NOW) == {"young", "of an hour", "old", "1a"}


def kept(age: float, size: int = 10, finished: bool = True) -> Kept:
    return Kept(Ref("build", KEY), size, NOW - age, finished, ("x",))


def goes(one: Kept, policy: Policy) -> bool:
    return gc.chosen([one], (), (), policy, NOW) == [one]


def test_the_bounds_of_what_goes() -> None:
    everything = Policy()
    assert [goes(kept(HOUR - 1), everything), goes(kept(HOUR), everything)] == [False, True]
    unfinished = [goes(kept(age, finished=False), everything) for age in (DAY - 1, DAY)]
    assert unfinished == [False, True]
    assert [goes(kept(age), Policy(3 * DAY)) for age in (3 * DAY - 1, 3 * DAY)] == [False, True]
    assert [goes(kept(DAY), Policy(None, most)) for most in (10, 9)] == [False, True]
    assert [goes(kept(DAY), Policy(3 * DAY, most)) for most in (10, 9)] == [False, True]


def test_an_artifact_is_finished_by_its_own_record(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    objects.put(f"build/ab/{KEY}/make/record.json", b"")
    objects.put(f"failed/{KEY}.json", b"1")
    assert {one.ref.stage: one.finished for one in gc.inventory(objects)} == {
        "build": False, "": True,
    }  # fmt: skip
    objects.put(f"build/ab/{KEY}/record.json", b"")
    assert all(one.finished for one in gc.inventory(objects))
