"""What a run says by its session, and what others make of one that was killed or suspended."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from object_stores import begun

from farm.store.objects import Entry, Objects
from farm.store.remote import claims, runs, service
from farm.store.remote.claims import ObjectClaims
from farm.store.remote.runs import RunClaims

PROJECT = Path(__file__).parents[3]


def claimed(objects: Objects) -> set[str]:
    """The names of all claims but the sessions."""
    found = (one.name.removeprefix("claims/") for one in objects.listed("claims"))
    return {name for name in found if "/" not in name}


HOLD = """
import sys
from farm.store.opening import open_objects
from farm.store.remote.runs import RunClaims
held = RunClaims(open_objects(sys.argv[1]), expires_s=3.0)
held.begin()
assert held.alone and held.claim("a")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_waits_for_the_end_of_one_that_was_killed_and_is_then_alone(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "ROUNDED_S", 1.0)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, objects.url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT,
    )  # fmt: skip
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    other.kill()
    other.communicate()
    began = time.monotonic()
    with begun(objects, 3.0) as own:
        assert own.alone and own.claim("a") and time.monotonic() - began > 1.0


def suspend(own: RunClaims) -> None:
    """As a process that was stopped for long: its thread makes no request from here on."""
    own._ended.set()
    assert own._thread is not None
    own._thread.join()
    own._put_at -= 1000
    own.objects.delete([f"claims/sessions/{own._token}"])


def test_a_run_that_was_suspended_is_seen_before_it_goes_on(objects: Objects) -> None:
    with begun(objects) as own:
        suspend(own)
        assert own.claim("a") and own.alone
        assert f"claims/sessions/{own._token}" in {one.name for one in objects.listed("claims")}


def test_a_run_that_has_given_way_waits_until_the_other_shares_its_steps_too(
    objects: Objects,
) -> None:
    with begun(objects) as own:
        other, found = ObjectClaims(objects), list[bool]()
        other._steps = "all"
        assert other.claim("theirs")
        wait_for(lambda: not own.alone)
        waits = threading.Thread(target=lambda: found.append(own.claim("a")))
        waits.start()
        time.sleep(3 * runs._PAUSE_S)
        assert waits.is_alive() and found == []
        other._steps = "each"
        other._put_session()
        waits.join()
        assert found == [True] and not own.claim("theirs")
        other.release_all()


@pytest.mark.parametrize(("seconds", "says"), [(25, False), (40, True)])
def test_a_run_puts_its_session_before_another_may_take_it_for_dead(
    objects: Objects, asked: list[str], seconds: float, says: bool
) -> None:
    """Half of the time after which others may."""
    with begun(objects) as own:
        suspend(own)
        own._put_at += 1000 - seconds
        asked.clear()
        assert own.claim("a") and own.alone
        assert (f"put {own._token}" in asked) is says


def test_a_run_that_has_just_ended_disturbs_no_other(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session is in the listing, and gone when it is read."""
    real = service.ObstoreObjects.listed

    def listed(self: Any, folder: str) -> Iterator[Entry]:
        yield from real(self, folder)
        yield Entry(f"{folder}/0123456789abcdef", 1, time.time(), "")

    monkeypatch.setattr(service.ObstoreObjects, "listed", listed)
    with begun(objects) as own:
        assert own.alone


def test_it_is_said_once_that_another_run_is_waited_for(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    monkeypatch.setattr(runs.log, "info", said.append)
    other = ObjectClaims(objects)
    other._steps = "all"
    assert other.claim("a")
    own = RunClaims(objects)
    waits = threading.Thread(target=own.begin)
    waits.start()
    wait_for(lambda: bool(said))
    time.sleep(3 * runs._PAUSE_S)
    other.release_all()
    waits.join()
    assert own.alone and len(said) == 1
    own.release_all()


def test_a_run_that_was_taken_for_dead_finds_the_one_that_has_taken_its_place(
    objects: Objects,
) -> None:
    suspended = RunClaims(objects, 5.0)
    suspended.begin()
    assert suspended.alone and suspended.claim("a")
    suspend(suspended)
    with begun(objects, 5.0) as own:
        assert own.alone and own.claim("a") and own.claim("b")
        assert suspended.claim("c") and not suspended.alone and not own.alone
        assert not suspended.claim("b") and claimed(objects) >= {"a", "b", "c"}
        own.release("a")  # both run it, and one has claimed it
        own._delete_released()
        assert "a" in claimed(objects)
        suspended.release_all()
        assert claimed(objects) == {"b"}
