"""Which claims are alive, as those see it who may only read; the service's clock may differ."""

from __future__ import annotations

import time

import pytest

from farm.store.objects import Objects
from farm.store.remote import claims, looking
from farm.store.remote.claims import ObjectClaims
from farm.store.remote.looking import Onlooker

DEAD = b'{"session": "0123456789abcdef"}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions are put every second, and are dead after five and a half."""
    monkeypatch.setattr(claims, "EXPIRES_S", 5.0)
    monkeypatch.setattr(looking, "ROUNDED_S", 0.5)
    monkeypatch.setattr(looking, "_PAUSE_S", 0.1)


def seen_with_a_clock_that_is(
    seconds: float, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> Onlooker:
    usual = time.time
    monkeypatch.setattr(looking.time, "time", lambda: usual() + seconds)
    return Onlooker(objects, "claims")


@pytest.mark.parametrize("seconds", [-3600.0, 0.0, 3600.0])
def test_a_living_process_is_told_from_a_dead_one_whatever_the_clock(
    seconds: float, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[str]()
    monkeypatch.setattr(looking.log, "info", said.append)
    own = ObjectClaims(objects)
    assert own.claim("a") and own.claim("b")
    objects.put("claims/dead", DEAD)  # its session is gone
    objects.put("claims/damaged", b"[")
    objects.put("claims/killed", DEAD.replace(b"0", b"1"))
    objects.put("claims/sessions/1123456789abcdef", DEAD)
    time.sleep(6.5)
    names = sorted(one.name for one in objects.listed(""))
    onlooker = seen_with_a_clock_that_is(seconds, objects, monkeypatch)
    late = ["killed"] if seconds < 0 else []  # known only once it was not put for a while
    assert onlooker.living() == ["a", "b", *late]
    doubtful = {-3600.0: [], 0.0: ["killed"], 3600.0: ["a, b, killed"]}[seconds]
    waits = [f"waiting at most 4 s for a sign of life of {names}" for names in doubtful]
    assert said == waits  # nobody waits in silence
    if late:
        time.sleep(6.0)
    assert onlooker.living() == ["a", "b"]
    assert sorted(one.name for one in objects.listed("")) == names
    own.release_all()
    assert onlooker.living() == []


def test_it_is_asked_once_where_nothing_is_doubtful(objects: Objects) -> None:
    own = ObjectClaims(objects)
    assert own.claim("a")
    began = time.monotonic()
    onlooker = Onlooker(objects, "claims")
    assert onlooker.living() == ["a"] and Onlooker(objects, "nowhere").living() == []
    assert time.monotonic() - began < 1.0
    own.release_all()
