"""Which claims and sessions are those of dead processes, to the second."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farm.files import jsonfile
from farm.store.folder import FolderObjects
from farm.store.objects import Objects
from farm.store.remote import leftovers
from farm.store.remote.claims import EXPIRES_S, ROUNDED_S, ObjectClaims, session
from farm.store.remote.leftovers import dead, remove_dead

OLD = 1_000_000_000.0
NOW = OLD + EXPIRES_S + ROUNDED_S
"""From the next moment on, what was put at `OLD` is that of a dead process."""


@pytest.fixture
def folder(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path)


def put(folder: FolderObjects, name: str, content: bytes = b"", put_at: float = OLD) -> None:
    folder.put(f"claims/{name}", content)
    os.utime(f"{folder.url}/claims/{name}", (put_at, put_at))


def test_a_claim_is_dead_when_its_session_is_old_or_gone(folder: FolderObjects) -> None:
    put(folder, "sessions/old")
    put(folder, "sessions/new", put_at=OLD + 1)
    for name in ("old", "new", "gone"):
        put(folder, name, b'{"session": "%b"}' % name.encode())
    put(folder, "just put", b'{"session": "gone"}', put_at=OLD + 1)
    put(folder, "damaged", b"{")
    assert dead(folder, NOW) == []
    assert dead(folder, NOW + 0.5) == ["damaged", "gone", "old", "sessions/old"]
    assert dead(folder, NOW + 0.5, "elsewhere") == []


def test_a_claim_that_is_too_large_is_nobodys(folder: FolderObjects) -> None:
    put(folder, "large")
    os.truncate(f"{folder.url}/claims/large", jsonfile.MOST_BYTES + 1)
    os.utime(f"{folder.url}/claims/large", (OLD, OLD))
    assert dead(folder, NOW + 0.5) == ["large"]


def test_a_claim_that_is_given_back_right_then_is_not_named(
    folder: FolderObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a", b'{"session": "gone"}')

    def get(self: FolderObjects, name: str) -> bytes:
        self.delete([name])
        return real(self, name)

    real = FolderObjects.get
    monkeypatch.setattr(FolderObjects, "get", get)
    assert dead(folder, NOW + 0.5) == []


def test_what_another_has_taken_over_by_then_is_not_removed(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        objects.put(f"claims/{name}", b'{"session": "gone"}')
    other = ObjectClaims(objects)

    def found(*_: object) -> list[str]:
        assert other.claim("a")
        return ["a", "b"]

    monkeypatch.setattr(leftovers, "dead", found)
    with session(objects) as own:
        assert remove_dead(own) == ["b"] and not own._held
    other.release_all()
