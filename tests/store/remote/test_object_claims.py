"""Claims in an object store: one of many has a name, and a dead process's names are free."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from object_stores import S3, use

from farm.store.objects import Entry, Objects, at_once
from farm.store.opening import open_objects
from farm.store.remote import claims, service
from farm.store.remote.claims import ObjectClaims, token_of
from farm.store.remote.leftovers import dead, remove_dead

PROJECT = Path(__file__).parents[3]


def names(objects: Objects) -> list[str]:
    return sorted(one.name for one in objects.listed(""))


def test_a_name_is_claimed_once_and_free_afterwards(objects: Objects) -> None:
    own, other = ObjectClaims(objects), ObjectClaims(objects)
    assert own.claim("a") and own.claim("a") and not other.claim("a") and other.claim("b")
    assert own.is_held_elsewhere("b") and not own.is_held_elsewhere("c")
    assert own._thread is not None and own._thread.daemon  # the process may end without releasing
    own.release("a")
    own.release("a")
    own.release_all()
    assert not own.is_held_elsewhere("a")
    other._others.clear()  # it has just been told that it is another's
    assert other.claim("a")
    other.release_all()
    own.release_all()
    assert names(objects) == []


def test_of_many_processes_one_has_the_name(objects: Objects) -> None:
    all_of_them = [ObjectClaims(objects) for _ in range(8)]
    assert sum(at_once(lambda one: one.claim("a"), all_of_them)) == 1
    for one in all_of_them:
        one.release_all()


def test_what_was_released_can_be_claimed_at_once(objects: Objects) -> None:
    own = ObjectClaims(objects, expires_s=0.5)
    for _ in range(3):
        assert own.claim("a")
        own.release("a")
    assert own.claim("a")
    time.sleep(0.5)  # what was released is deleted meanwhile, and this is not
    assert "claims/a" in names(objects)
    own.release("a")
    wait_for(lambda: "claims/a" not in names(objects))
    own.release_all()
    assert names(objects) == []


HOLD = """
import sys
from farm.store.opening import open_objects
from farm.store.remote.claims import ObjectClaims
held = ObjectClaims(open_objects(sys.argv[1]), expires_s=1.0)
assert held.claim("a")
print("held", flush=True)
sys.stdin.read()
"""


def test_the_names_of_a_killed_process_are_free_when_it_has_expired(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "ROUNDED_S", 1.5)
    monkeypatch.setattr(claims, "_ASKED_S", 0.2)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, objects.url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT,
    )  # fmt: skip
    own = ObjectClaims(objects, expires_s=1.0)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        until = time.monotonic() + 4.0  # longer than it takes to expire: it beats
        while time.monotonic() < until:
            assert not own.claim("a")
            time.sleep(0.2)
    finally:
        other.kill()
        other.communicate()
    wait_for(lambda: own.claim("a"))
    assert json.loads(objects.get("claims/a"))["session"] == own._token
    own.release_all()


def test_what_a_killed_process_has_left_is_named_and_removed_and_nothing_else(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, objects.url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT,
    )  # fmt: skip
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    (dead_session,) = (name for name in names(objects) if "/sessions/" in name)
    other.kill()
    other.communicate()
    monkeypatch.setattr(claims, "EXPIRES_S", 3.0)
    lives = ObjectClaims(objects)
    assert lives.claim("lives")
    with claims.session(objects) as own:
        assert remove_dead(own) == []  # it may live
        until = time.monotonic() + 60
        while not (found := dead(objects, own.now())):
            assert time.monotonic() < until
            time.sleep(0.2)
        assert found == ["a", dead_session.removeprefix("claims/")]
        assert remove_dead(own) == found and not dead(objects, own.now())
    assert names(objects) == ["claims/lives", f"claims/sessions/{lives._token}"]
    lives.release_all()
    with claims.session(objects) as own:
        assert remove_dead(own) == [] and not names(objects)  # where nothing is, nothing is put


def test_a_claim_is_waited_for_until_its_process_gives_a_sign_of_life(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[tuple[str, ...]]()
    monkeypatch.setattr(claims.log, "info", lambda *words: said.append(words))
    monkeypatch.setattr(claims, "EXPIRES_S", 5.0)
    own, lives = ObjectClaims(objects), ObjectClaims(objects)
    assert lives.claim("a")
    began = time.monotonic()
    assert not own.outlast("a")
    assert time.monotonic() - began < 5.0
    lives._ended.set()  # as a process that was killed: it gives no sign any more
    assert own.outlast("a")
    assert own._held == {"a"} and [one[1:] for one in said] == [("a",)] * 2  # of each wait once
    own.release_all()


def test_a_claim_lives_as_long_as_its_session_may(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, lives = ObjectClaims(objects), ObjectClaims(objects)
    assert lives.claim("a")
    lives._ended.set()
    put_at = objects.entry(f"claims/sessions/{lives._token}").modified
    for after, is_alive in ((61.5, True), (62.5, False)):  # EXPIRES_S and ROUNDED_S
        monkeypatch.setattr(own, "now", lambda after=after: put_at + after)
        assert own.is_held_elsewhere("a") is is_alive
    own.release_all()
    lives.release_all()


def test_the_service_is_not_asked_what_it_has_just_said(objects: Objects, asked: list[str]) -> None:
    own, other = ObjectClaims(objects), ObjectClaims(objects)
    assert other.claim("other's")
    for name in ("a", "b"):
        objects.put(f"claims/{name}", b'{"session": "0123456789abcdef"}')
    assert own.claim("a") and own.claim("b") and not own.claim("other's")
    assert asked.count("entry 0123456789abcdef") == 1  # it is dead
    asked.clear()
    assert own.claim("a") and not own.claim("other's")
    assert not [name for name in asked if "put_if_absent" in name or "entry" in name]
    own.release_all()
    other.release_all()


def test_a_claim_that_is_given_back_right_then_is_free(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = ObjectClaims(objects), ObjectClaims(objects)
    assert other.claim("a")
    own._begin()

    def entry(self: Any, name: str) -> Entry:
        other.release_all()
        return real(self, name)

    real = service.ObstoreObjects.entry
    monkeypatch.setattr(service.ObstoreObjects, "entry", entry)
    assert own.claim("a")
    own.release_all()


@pytest.mark.parametrize(("seconds", "left"), [(25, []), (40, ["claims/a"])])
def test_claims_are_deleted_while_their_session_is_surely_alive(
    objects: Objects, seconds: float, left: list[str]
) -> None:
    """Half of the time after which another may take them over."""
    own = ObjectClaims(objects)
    assert own.claim("a")
    own._ended.set()
    assert own._thread is not None
    own._thread.join()
    own._put_at -= seconds
    own.release_all()
    assert names(objects) == left


def test_a_damaged_claim_is_of_no_session() -> None:
    for content in (b"", b"[]", b"{}", b'{"session": 3}', b'{"session": "../a"}', b"[" * 5000):
        assert token_of(content) == ""
    assert token_of(b'{"session": "0a"}') == "0a"


def test_of_two_who_find_a_dead_holder_one_takes_over(objects: Objects) -> None:
    objects.put("claims/a", b'{"session": "0123456789abcdef"}')  # whose session is gone
    objects.put("claims/b", b"\xff torn")
    pair = [ObjectClaims(objects) for _ in range(2)]
    assert sum(at_once(lambda one: one.claim("a"), pair)) == 1
    assert sum(at_once(lambda one: one.claim("b"), pair)) == 1
    for one in pair:
        one.release_all()


def test_a_claim_that_another_has_taken_over_stays(objects: Objects) -> None:
    own = ObjectClaims(objects)
    assert own.claim("a")
    own._put_at -= 1000  # as after a long suspension
    objects.put("claims/a", b'{"session": "ffff"}')
    own.release_all()
    assert names(objects) == ["claims/a"]


def test_a_service_without_conditions_is_said_once_and_stops_nobody(
    s3_without_conditions: S3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(s3_without_conditions, tmp_path, monkeypatch)
    objects = open_objects(f"s3://{s3_without_conditions.bucket()}/x")
    own, other = ObjectClaims(objects), ObjectClaims(objects)
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    claims.log.addHandler(handler)
    try:
        assert own.claim("a") and own.claim("b") and other.claim("a")
    finally:
        claims.log.removeHandler(handler)
    assert len(told) == 2 and told[0].startswith(f"{objects.url} keeps no conditions on puts")
    own.release_all()
    assert names(objects) == []
