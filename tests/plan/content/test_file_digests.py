"""Digests of the user's files: what is remembered, what is read again, how a thing is today."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from farm.errors import InputError
from farm.plan.content import digests, fingerprints
from farm.plan.content.files import NotThere, expanded, image_folder, plain_file

LONG_AGO = 1_600_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "farm"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of all files can be trusted, as after two seconds."""
    monkeypatch.setattr(digests, "GRAIN_NS", -(10**12))


def counted(values: list[str]) -> Callable[[], str]:
    """Gives the values one by one."""
    return lambda: values.pop(0)


def test_the_cache_is_where_the_user_has_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert digests.cache_folder() == cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert digests.cache_folder() == Path("/home/someone/.cache/farm")


def test_a_digest_is_of_all_that_a_file_holds(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "f").write_bytes(data)
    assert digests.of_file(tmp_path / "f") == sha256(data)
    (tmp_path / "f").write_bytes(b"")
    assert digests.of_file(tmp_path / "f") == sha256(b"")
    with pytest.raises(FileNotFoundError):
        digests.of_file(tmp_path / "gone")


def test_a_file_that_has_just_changed_is_read_again(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "f").write_text("a")
    values = ["first", "second"]
    for expected in ("first", "second"):
        found = digests.remembered("x", [str(tmp_path / "f")], counted(values))
        assert found == expected
    assert not (cache / "digests").exists()


@pytest.mark.usefixtures("settled")
def test_files_that_have_settled_are_read_once(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "f").write_text("a")
    (tmp_path / "g").write_text("b")
    paths = [str(tmp_path / "f"), str(tmp_path / "g")]
    values = ["one", "two", "three", "four"]
    assert digests.remembered("x", paths, counted(values)) == "one"
    assert digests.remembered("x", paths, counted(values)) == "one"
    (kept,) = (cache / "digests").iterdir()
    assert json.loads(kept.read_text()) == {"sha256": "one"}
    assert digests.remembered("another purpose", paths, counted(values)) == "two"
    os.utime(tmp_path / "g", (LONG_AGO, LONG_AGO))
    assert digests.remembered("x", paths, counted(values)) == "three"
    assert digests.remembered("x", paths[:1], counted(values)) == "four"


@pytest.mark.usefixtures("settled")
def test_a_missing_file_is_remembered_as_missing(tmp_path: Path) -> None:
    """Packages leave out files that they list, such as tests; one that appears is read."""
    (tmp_path / "f").write_text("a")
    paths = [str(tmp_path / "f"), str(tmp_path / "f" / "no folder"), str(tmp_path / "gone")]
    values = ["one", "two"]
    assert digests.remembered("x", paths, counted(values)) == "one"
    assert digests.remembered("x", paths, counted(values)) == "one"
    (tmp_path / "gone").write_text("")
    assert digests.remembered("x", paths, counted(values)) == "two"


@pytest.mark.usefixtures("settled")
def test_another_process_finds_what_was_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").write_text("a")
    paths = [str(tmp_path / "f")]
    digests.remembered("x", paths, counted(["one"]))
    monkeypatch.setattr(digests, "_KNOWN", {})
    assert digests.remembered("x", paths, counted(["two"])) == "one"
    (kept,) = (cache / "digests").iterdir()
    for torn in ("", "[]", "{}", '"x"'):
        kept.write_text(torn)
        monkeypatch.setattr(digests, "_KNOWN", {})
        assert digests.remembered("x", paths, counted(["again"])) == "again"
        assert json.loads(kept.read_text()) == {"sha256": "again"}


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "f").write_text("a")

    def changing() -> str:
        (tmp_path / "f").write_text("longer")
        return "old"

    assert digests.remembered("x", [str(tmp_path / "f")], changing) == "old"
    assert not (cache / "digests").exists()
    assert digests.remembered("x", [str(tmp_path / "f")], counted(["new"])) == "new"


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    (tmp_path / "f").write_text("a")
    assert digests.of_file(tmp_path / "f") == sha256(b"a")


def test_files_of_a_folder_are_in_order_and_links_are_followed_once(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    for name in ("root/b/2.png", "root/b/1.png", "root/a/x.png", "root/z.png", "out/o.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (root / "up").symlink_to(tmp_path)
    (root / "self").symlink_to(root)
    (root / "linked").symlink_to(out)
    (root / "once_more").symlink_to(out)
    assert list(digests.files_in(root)) == [
        "./z.png", "a/x.png", "b/1.png", "b/2.png", "linked/o.png",
    ]  # fmt: skip


def test_how_a_thing_is_today(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("abc")
    (tmp_path / "link").symlink_to("f")
    (tmp_path / "dir").mkdir()
    assert fingerprints.content(path) == sha256(b"abc")
    assert fingerprints.content(tmp_path / "dir") == "no file"
    assert fingerprints.content(tmp_path / "gone") == "missing"
    assert fingerprints.content(Path("a\0b")) == "missing"
    for check in (fingerprints.existence, fingerprints.link):
        assert check(tmp_path / "dir") == "folder"
        assert check(path) == sha256(b"abc")
        assert check(path, by_size=True) == "3 bytes"
        assert check(tmp_path / "gone", by_size=True) == "missing" == check(tmp_path / "gone")
    assert fingerprints.link(tmp_path / "link") == "link to f"
    assert fingerprints.existence(tmp_path / "link") == sha256(b"abc")
    assert fingerprints.variable(None) == "not set"
    assert fingerprints.variable(b"") == sha256(b"") and fingerprints.variable(b"x") == sha256(b"x")


def test_a_folder_is_the_names_in_it(tmp_path: Path) -> None:
    for name in ("b", "a", "__pycache__"):
        (tmp_path / "d" / name).mkdir(parents=True)
    (tmp_path / "d" / "f").write_text("x")
    expected = sha256(json.dumps(["a/", "b/", "f"]).encode())
    assert fingerprints.folder(tmp_path / "d") == expected
    assert fingerprints.folder(tmp_path / "gone") == "missing"
    assert fingerprints.folder(tmp_path / "d" / "f") == "missing"


def test_a_module_is_importable_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_mod.py").write_text("x = 1")
    (tmp_path / "space").mkdir()
    assert fingerprints.importable("own_mod", tmp_path) == sha256(b"x = 1")
    assert fingerprints.importable("own_mod", None) == "missing"
    assert fingerprints.importable("gone_mod", tmp_path) == "missing"
    monkeypatch.syspath_prepend(str(tmp_path))
    assert fingerprints.importable("own_mod", None) == sha256(b"x = 1")
    assert fingerprints.importable("space", tmp_path) == "found"  # of no file
    assert fingerprints.importable("sys", None) == "found"


def test_paths_are_from_the_matrixs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert expanded("a/b", tmp_path) == tmp_path / "a" / "b"
    assert expanded("~/b", tmp_path) == Path("/home/someone/b")
    (tmp_path / "f").write_text("x")
    assert expanded("f/below", tmp_path) == tmp_path / "f" / "below"
    for wrong in ("a\0b", "x" * 5000, "\ud800"):
        with pytest.raises(InputError, match="is no path") as error:
            expanded(wrong, tmp_path)
        assert error.value.message.startswith(repr(wrong[:80]))


def test_a_file_is_taken_with_its_digest_or_refused_for_its_reason(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "empty").write_text("")
    (tmp_path / "dir").mkdir()
    found = plain_file("checkpoint", "f", tmp_path)
    assert (found.path, found.digest) == (str(tmp_path / "f"), sha256(b"x"))
    for name, what in (
        ("empty", "is empty"), ("dir", "is a folder, not a file"), ("gone", "does not exist"),
    ):  # fmt: skip
        with pytest.raises(NotThere) as error:
            plain_file("checkpoint", name, tmp_path)
        assert error.value.message == f"checkpoint {tmp_path / name} {what}"
        moved = error.value.at("m.yaml:3")
        assert isinstance(moved, NotThere) and moved.where == "m.yaml:3"
        assert moved.message == error.value.message


def test_a_folder_of_images_is_their_names_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "a.png").write_text("abc")
    (tmp_path / "d" / "b.png").symlink_to("nowhere")
    found = image_folder("d", tmp_path)
    assert found.path == str(tmp_path / "d")
    assert found.digest == sha256(b"./b.png\0None\nsub/a.png\x003\n")
    (tmp_path / "f").write_text("x")
    (tmp_path / "none").mkdir()
    for name, what in (
        ("f", "is a file, not a folder"), ("none", "is empty"), ("gone", "does not exist"),
    ):  # fmt: skip
        with pytest.raises(NotThere) as error:
            image_folder(name, tmp_path)
        assert error.value.message == f"image folder {tmp_path / name} {what}"
