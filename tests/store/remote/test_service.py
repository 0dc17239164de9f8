"""Objects of a service, on a real server on this machine: conditions, faults, and what is said."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import traceback
from pathlib import Path

import pytest
from faults import Proxy
from object_stores import S3, use

from farm.errors import InputError
from farm.files import jsonfile
from farm.store.objects import Objects, Unreachable, at_once, is_url
from farm.store.opening import open_objects
from farm.store.remote import service

ODD = "a/b c ü#%=1"


@pytest.fixture
def far(proxy: Proxy, s3_server: S3) -> Objects:
    """Objects behind the proxy."""
    return open_objects(f"s3://{s3_server.bucket()}/far")


def test_what_was_put_is_there_under_any_name(objects: Objects, tmp_path: Path) -> None:
    objects.put(ODD, b"one")
    (tmp_path / "large").write_bytes(large := os.urandom(20 << 20))
    objects.put("a/large", tmp_path / "large")
    assert objects.get(ODD) == b"one"
    assert objects.download("a/large", tmp_path / "back") == hashlib.sha256(large).hexdigest()
    assert (tmp_path / "back").read_bytes() == large
    found = {one.name: one for one in objects.listed("a")}
    assert {name: one.size for name, one in found.items()} == {ODD: 3, "a/large": 20 << 20}
    assert found[ODD] == objects.entry(ODD)
    assert [*objects.listed("b")] == []
    objects.delete([ODD, "a/nothing"])
    objects.delete([])
    with pytest.raises(FileNotFoundError) as error:
        objects.get(ODD)
    assert error.value.errno == errno.ENOENT and error.value.filename == f"{objects.url}/{ODD}"
    with pytest.raises(FileNotFoundError):
        objects.entry(ODD)


def test_more_names_than_a_request_may_have_are_listed_and_deleted(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_MOST_NAMES", 2)
    for number in range(5):
        objects.put(f"a/{number}", b"")
    assert len([*objects.listed("a")]) == 5
    objects.delete([f"a/{number}" for number in range(5)])
    assert [*objects.listed("a")] == []


def test_an_object_is_put_once_and_replaced_by_who_knows_it(objects: Objects) -> None:
    first = objects.put_if_absent("claim", b"mine")
    assert first and objects.put_if_absent("claim", b"theirs") is None
    assert re.fullmatch(r'"\w+" ', first)  # this service keeps no versions
    assert objects.put_if_absent("claim", b"mine") == first  # as if its answer had been lost
    second = objects.replace("claim", b"theirs", first)
    assert second and objects.replace("claim", b"mine", first) is None
    assert objects.get("claim") == b"theirs"
    assert objects.replace("nothing", b"mine", first) is None


def test_of_many_who_put_at_once_one_has_done_it(objects: Objects) -> None:
    def put(number: int) -> bool:
        return objects.put_if_absent("claim", str(number).encode()) is not None

    won = at_once(put, range(32))
    assert sum(won) == 1 and objects.get("claim") == str(won.index(True)).encode()


def test_a_service_without_conditions_is_known(
    objects: Objects, s3_without_conditions: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert objects.has_conditions("probe")
    use(s3_without_conditions, tmp_path, monkeypatch)
    other = open_objects(f"s3://{s3_without_conditions.bucket()}/x")
    assert not other.has_conditions("probe")
    assert [*objects.listed("")] == [*other.listed("")] == []


def test_no_large_object_is_read_as_a_small_one(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put("x", b"0123")
    monkeypatch.setattr(jsonfile, "MOST_BYTES", 4)
    assert objects.get("x") == b"0123"
    monkeypatch.setattr(jsonfile, "MOST_BYTES", 3)
    with pytest.raises(ValueError, match="larger than 3 bytes"):
        objects.get("x")


def test_a_busy_server_is_asked_again(far: Objects, proxy: Proxy) -> None:
    proxy.rule = lambda method, path, before: "503" if before < 2 else "slow" if before < 3 else ""
    far.put("x", b"content")
    assert far.get("x") == b"content"
    assert [one.name for one in far.listed("")] == ["x"]


def test_a_claim_whose_answer_was_lost_is_known_as_ones_own(far: Objects, proxy: Proxy) -> None:
    proxy.rule = lambda method, path, before: "lost" if (method, before) == ("PUT", 0) else ""
    tag = far.put_if_absent("claim", b"mine")
    assert tag and far.get("claim") == b"mine"
    proxy.seen.clear()
    assert far.replace("claim", b"mine again", tag)
    assert far.get("claim") == b"mine again"
    proxy.seen.clear()
    assert far.put_if_absent("claim", b"theirs") is None


def test_a_download_that_is_cut_goes_on_from_there(
    far: Objects, proxy: Proxy, tmp_path: Path
) -> None:
    content = os.urandom(3 << 20)
    far.put("large", content)
    proxy.seen.clear()
    proxy.rule = lambda method, path, before: "cut" if before < 3 else ""
    assert far.download("large", tmp_path / "x") == hashlib.sha256(content).hexdigest()
    assert (tmp_path / "x").read_bytes() == content
    assert sum(proxy.seen.values()) == 4


def test_connections_that_are_cut_again_and_again_are_made_anew_for_a_while(
    far: Objects, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_PAUSE_S", 0.001)
    far.put("x", b"content")
    proxy.rule = lambda method, path, before: "cut" if before < 8 else ""
    assert far.get("x") == b"content"
    proxy.seen.clear()
    assert [one.name for one in far.listed("")] == ["x"]
    proxy.seen.clear()
    monkeypatch.setattr(service, "_AGAIN_S", 0)
    proxy.rule = lambda method, path, before: "cut"
    for ask in (lambda: far.get("x"), lambda: far.download("x", tmp_path / "x")):
        with pytest.raises(Unreachable, match="the connection was cut"):
            ask()
        assert sum(proxy.seen.values()) >= service._TRIES
        proxy.seen.clear()


def test_a_service_that_is_gone_is_an_error_of_one_line(
    proxy: Proxy, far: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.close()
    with pytest.raises(InputError) as error:
        far.require_reachable()
    assert str(error.value) == f"{far.url}: no connection to the service"


@pytest.mark.parametrize(
    ("place", "variables", "said"),
    [
        ("s3://none/x", {}, "s3://none/x: there is no bucket 'none'"),
        ("s3://none/x", {"AWS_ACCESS_KEY_ID": None}, "s3://none/x: no credentials were found; set "
         "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"),
        ("s3://none/x", {"AWS_ACCESS_KEY_ID": None, "AWS_EC2_METADATA_DISABLED": "true"},
         "s3://none/x: no credentials were found; set AWS_ACCESS_KEY_ID and"),
        ("s3://none/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "no connection to the service"),
        ("s3://none/x", {"AWS_ENDPOINT_URL": "nonsense"},
         "AWS_ENDPOINT_URL: expected http://HOST:PORT or https://HOST"),
        ("s3://none/x", {"AWS_ENDPOINT_URL": "http://me:hunter2@host"},
         "AWS_ENDPOINT_URL: expected http://HOST"),
        ("s3://none/x", {"AWS_ACCESS_KEY_ID": None, "AWS_PROFILE": "absent"},
         "AWS's configuration cannot be used: ProfileNotFound"),
        ("s4://none/x", {}, "no object store has addresses that begin with s4://; expected one of"),
        ("s3://", {}, "s3://: expected BUCKET/PATH, without credentials"),
        ("s3://me:hunter2@none/x", {}, "s3://: expected BUCKET/PATH, without credentials"),
        ("az://none/x", {}, "no credentials were found; set AZURE_STORAGE_ACCOUNT_NAME"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_once_and_without_secrets(
    s3: S3, monkeypatch: pytest.MonkeyPatch, place: str, variables: dict[str, str | None], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as error:
        open_objects(place).require_reachable()
    assert said in str(error.value) and "\n" not in str(error.value)
    assert "hunter2" not in "".join(traceback.format_exception(error.value))  # as `-v` shows it


def test_a_refusal_names_the_services_own_word_for_it(far: Objects, proxy: Proxy) -> None:
    objects = open_objects("s3://none/x")
    with pytest.raises(Unreachable, match="there is no bucket 'none'"):
        objects.put("x", b"")
    proxy.seen.clear()
    with pytest.raises(Unreachable, match="there is no bucket 'none'"):
        objects.get("x")
    assert [*proxy.seen.values()] == [1]  # another try would find none, either


def test_credentials_of_a_profile_are_used(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = s3.bucket()
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    (tmp_path / "home" / ".aws").mkdir(parents=True)
    file = tmp_path / "home" / ".aws" / "credentials"
    file.write_text("[default]\naws_access_key_id = farm\naws_secret_access_key = hunter2\n")
    objects = open_objects(f"s3://{name}/x")
    objects.put("y", b"1")
    assert objects.get("y") == b"1"


def test_what_is_an_address() -> None:
    assert is_url("s3://b/x") and is_url("S3://b") and not is_url("/s3/x") and not is_url("s3:/b")
