"""Runs that share an object store: one that is alone claims no step, two do no step twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for
from object_stores import S3, begun, use

from farm.store.objects import Objects, Unreachable, at_once
from farm.store.opening import open_objects
from farm.store.remote import claims, service
from farm.store.remote.claims import ObjectClaims
from farm.store.remote.runs import RunClaims


def claimed(objects: Objects) -> set[str]:
    """The names of all claims but the sessions."""
    found = (one.name.removeprefix("claims/") for one in objects.listed("claims"))
    return {name for name in found if "/" not in name}


def test_a_run_that_is_alone_claims_nothing_and_leaves_nothing(objects: Objects) -> None:
    with begun(objects) as own:
        assert own.alone and own.claim("a") and own.claim("a") and own.claim("b")
        own.release("a")
        assert own.claim("a") and not claimed(objects)
        objects.put("claims/b", b"another's, of an earlier version, a moment ago")
    assert claimed(objects) == {"b"}
    objects.delete(["claims/b"])
    assert not [*objects.listed("")]


def test_what_runs_is_claimed_before_another_run_begins_a_step(objects: Objects) -> None:
    with begun(objects) as own:
        assert own.claim("a") and own.claim("b") and own.claim("done")
        own.release("done")
        with begun(objects) as other:
            assert not own.alone and not other.alone
            assert claimed(objects) == {"a", "b"}
            assert not other.claim("a") and other.claim("done") and other.claim("c")
            assert own.claim("a") and not own.claim("c")
            own.release("b")
            wait_for(lambda: "b" not in claimed(objects))
            assert other.claim("b")
            with begun(objects) as third:
                assert not third.claim("a") and not third.claim("b") and third.claim("d")
        assert own.claim("e") and "e" in claimed(objects)  # it claims each step from then on
    assert not [*objects.listed("")]


def test_a_run_of_few_steps_waits_for_the_one_that_has_all(objects: Objects) -> None:
    with begun(objects) as own:
        assert own.claim("a")
        few = RunClaims(objects)
        assert not few.claim("a") and few.claim("b")
        assert not few.alone and not own.alone
        few.release_all()
    few = RunClaims(objects)
    assert few.claim("a") and claimed(objects) == {"a"}
    few.release_all()


def test_of_runs_that_begin_at_the_same_time_one_has_each_step(objects: Objects) -> None:
    def done(own: RunClaims) -> list[str]:
        own.begin()
        both.wait(60)
        return [name for name in "abcdef" if own.claim(name)]

    for _ in range(3):
        runs, both = [RunClaims(objects) for _ in range(3)], threading.Barrier(3)
        found = at_once(done, runs)
        assert sorted(name for names in found for name in names) == [*"abcdef"]
        for own in runs:
            own.release_all()


def test_what_ends_while_it_is_claimed_for_another_run_is_free(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, real = RunClaims(objects), service.ObstoreObjects.put_if_absent

    def put_if_absent(self: Any, name: str, content: bytes) -> str | None:
        own.release("a")
        return real(self, name, content)

    own.begin()
    assert own.claim("a")
    with monkeypatch.context() as patch:
        patch.setattr(service.ObstoreObjects, "put_if_absent", put_if_absent)
        other = RunClaims(objects)
        other.begin()
    wait_for(lambda: other.claim("a"))
    own.release_all()
    other.release_all()


def test_a_run_that_cannot_look_for_others_claims_its_steps(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Any, folder: str) -> Any:
        raise Unreachable(self.url, "503", passing=True)

    own = RunClaims(objects)
    with monkeypatch.context() as patch:
        patch.setattr(service.ObstoreObjects, "listed", fails)
        with pytest.raises(OSError, match="503"):
            own.begin()
        with pytest.raises(OSError, match="503"):
            own.claim("a")  # another may have all steps
    assert own.claim("a") and claimed(objects) == {"a"}
    with begun(objects) as other:
        assert not other.alone and other.claim("b")
    own.release_all()


def test_a_run_gives_way_when_the_service_answers_again(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the other waits, since what this one runs is not claimed."""

    def fails(self: Any, name: str, content: bytes) -> str | None:
        failed.set()
        raise Unreachable(self.url, "503", passing=True)

    failed = threading.Event()
    with begun(objects) as own, monkeypatch.context() as patch:
        assert own.claim("a")
        patch.setattr(service.ObstoreObjects, "put_if_absent", fails)
        other = RunClaims(objects)
        waits = threading.Thread(target=other.begin)
        waits.start()
        assert failed.wait(60)
        with pytest.raises(OSError, match="503"):
            own.claim("b")
        time.sleep(0.5)
        assert waits.is_alive()
        patch.undo()
        waits.join(60)
        assert not waits.is_alive() and not other.claim("a") and own.claim("b")
        other.release_all()


def test_who_runs_no_steps_disturbs_no_run(objects: Objects) -> None:
    with begun(objects) as own, claims.session(objects) as tool:
        assert own.claim("a") and tool.claim("gc")
        looked = own._idle
        wait_for(lambda: tool._token in looked)
        with begun(objects) as other:
            assert not other.alone
    with claims.session(objects) as tool:
        assert tool.claim("gc")
        with begun(objects) as own:
            assert own.alone


def test_a_session_of_an_earlier_version_is_that_of_a_run_that_claims_its_steps(
    objects: Objects,
) -> None:
    earlier = ObjectClaims(objects)
    earlier._own = lambda: b'{"session": "%s"}' % earlier._token.encode()  # type: ignore[method-assign]
    assert earlier.claim("a")
    with begun(objects) as own:
        assert not own.alone and not own.claim("a") and own.claim("b")
    earlier.release_all()


def test_without_conditions_no_run_is_alone_and_none_waits(
    s3_without_conditions: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(s3_without_conditions, tmp_path, monkeypatch)
    objects = open_objects(f"s3://{s3_without_conditions.bucket()}/x")
    with begun(objects) as own, begun(objects) as other:
        assert not own.alone and own.claim("a") and other.claim("a")
    assert not [*objects.listed("")]
