"""A folder that mirrors objects: what is fetched, put and removed, and what is left alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from farm.store.objects import Objects
from farm.store.remote.mirror import Mirror

MARKS = ".mirror.json"


@pytest.fixture
def mirror(objects: Objects, tmp_path: Path) -> Mirror:
    objects.put("results/a/one", b"1")
    objects.put("results/two", b"2")
    objects.put("else/three", b"3")
    return Mirror(objects, tmp_path / "new" / "folder")


def files(mirror: Mirror) -> dict[str, str]:
    return {
        path.relative_to(mirror.folder).as_posix(): path.read_text()
        for path in mirror.folder.rglob("*")
        if path.is_file() and path.name != MARKS
    }


def test_a_folder_has_the_files_of_a_place_and_its_owner_alone_reads_them(mirror: Mirror) -> None:
    mirror.pull("results")
    assert files(mirror) == {"results/a/one": "1", "results/two": "2"}
    for name in ("results/two", MARKS):
        assert stat.S_IMODE((mirror.folder / name).stat().st_mode) == 0o600


def test_what_has_not_changed_is_not_fetched_again(
    mirror: Mirror, objects: Objects, asked: list[str]
) -> None:
    mirror.pull("results")
    asked.clear()
    mirror.pull("results")
    assert asked == ["listed results"]
    objects.put("results/two", b"other")
    (mirror.folder / "results" / "a" / "one").write_text("written here, and not put")
    asked.clear()
    mirror.pull("results")
    assert sorted(asked) == ["download one", "download two", "listed results"]
    assert files(mirror) == {"results/a/one": "1", "results/two": "other"}


@pytest.mark.parametrize("damaged", [b"", b"[]", b"\xff"])
def test_without_its_marks_all_is_fetched(mirror: Mirror, asked: list[str], damaged: bytes) -> None:
    mirror.pull("results")
    (mirror.folder / MARKS).write_bytes(damaged)
    asked.clear()
    mirror.pull("results")
    assert sorted(asked) == ["download one", "download two", "listed results"]
    asked.clear()
    mirror.pull("results")
    assert asked == ["listed results"]


def test_what_is_no_object_any_more_goes(mirror: Mirror, objects: Objects) -> None:
    mirror.pull("results")
    (mirror.folder / "results" / ".hidden").write_text("of a program that writes there")
    (mirror.folder / "results" / "own").write_text("not put")
    (mirror.folder / "outside").write_text("")
    objects.delete(["results/two"])
    mirror.pull("results")
    assert sorted(files(mirror)) == ["outside", "results/.hidden", "results/a/one"]


def test_what_another_process_has_removed_by_then_is_no_error(mirror: Mirror) -> None:
    mirror.pull("results")
    own = mirror.folder / "results" / "own"
    own.write_text("")

    def wanted(name: str) -> bool:
        own.unlink(missing_ok=True)
        return True

    mirror.pull("results", wanted)
    assert sorted(files(mirror)) == ["results/a/one", "results/two"]


def test_what_is_not_wanted_is_left_alone(mirror: Mirror) -> None:
    mirror.pull("results", lambda name: name.endswith("one"))
    assert files(mirror) == {"results/a/one": "1"}
    (mirror.folder / "results" / "own").write_text("here")
    mirror.pull("results", lambda name: name.endswith("two"))
    assert files(mirror) == {"results/a/one": "1", "results/two": "2", "results/own": "here"}


def test_what_was_put_from_here_is_not_fetched(
    mirror: Mirror, objects: Objects, asked: list[str]
) -> None:
    mirror.pull("results")
    (mirror.folder / "results" / "two").write_text("new")
    mirror.push(["results/two"])
    assert objects.get("results/two") == b"new"
    asked.clear()
    mirror.pull("results")
    assert asked == ["listed results"] and files(mirror)["results/two"] == "new"
