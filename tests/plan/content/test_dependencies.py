"""What a model is made of, beside its own files: read, compared with today, and put in keys."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from farm.plan.content import dependencies, fingerprints
from farm.plan.content.dependencies import Where
from farm.plan.content.packages import exact_version
from farm.specs import File, Model, ModuleModel, OnnxModel, Used


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def used(kind: str, name: str = "", place: str = "", digest: str = "") -> Used:
    return Used(kind, name, digest, place)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "mod.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)
    return folder


def test_files_of_a_model_are_told_from_its_own_folder(project: Path) -> None:
    config, weights = File(str(project / "c.py"), ""), File("w", "")
    model = Model("m", "mmdet", config, weights)
    assert dependencies.where(model) == Where(project)
    assert dependencies.where(OnnxModel("m", File(str(project / "m.onnx"), ""))) == Where(project)
    module = ModuleModel("m", "mod:make", str(project / "sub"), File("mod.py", ""))
    assert dependencies.where(module) == Where(project / "sub", project / "sub")
    relative = Model("m", "mmdet", File("project/sub/c.py", ""), weights)
    assert dependencies.where(relative) == Where(project / "sub")


def test_a_place_has_one_name_wherever_the_project_lies(project: Path) -> None:
    places = Where(project)
    (project.parent / "link").symlink_to(project)
    by_link = Where(project.parent / "link")
    assert places.name(str(project / "sub" / "mod.py")) == "sub/mod.py"
    assert by_link.name(str(project / "a.txt")) == "a.txt"
    assert by_link.name(str(project.parent / "link" / "a.txt")) == "a.txt"
    assert places.name(str(project.parent / "b.txt")) == "../b.txt"
    assert Where(Path("/home/x")).name("/usr/lib/y") == "/usr/lib/y"
    assert places.path("../b.txt") == project.parent / "b.txt"
    assert places.path("/usr/lib/y") == Path("/usr/lib/y")
    assert places.contains_folder(str(project.parent)) and places.contains_folder(str(project))
    assert not places.contains_folder(str(project / "sub"))
    assert by_link.contains_folder(str(project))


def test_what_was_written_down_is_read_once_each_and_torn_lines_are_left_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / dependencies.FILE
    first, second = used("file", "a", "a.txt", "1"), used("variable", "B", "", "2")
    lines = [
        dependencies.line(first), dependencies.line(second),
        dependencies.line(used("file", "a", "a.txt", "later")),
        "[1, 2, 3, 4]\n", '["a", "b", "c"]\n', "{}\n", "[" * 100_000 + "\n",
        dependencies.line(used("file", "c"))[:-5],
    ]  # fmt: skip
    path.write_text("".join(lines))
    assert set(dependencies.read(path)) == {first, second} and len(dependencies.read(path)) == 2
    assert dependencies.read(tmp_path / "gone") == ()
    path.write_bytes(b"\xff\xfe")
    assert dependencies.read(path) == ()


def test_each_kind_is_compared_with_what_it_is_today(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Where(project, project / "sub")
    monkeypatch.setenv("FARM_TEST_X", "value")
    monkeypatch.delenv("FARM_TEST_Y", raising=False)
    (project / "link").symlink_to("a.txt")
    names = sha(json.dumps(["a.txt", "link", "sub/"]))
    today = {
        used("file", "", "a.txt"): sha("a"),
        used("file", "", "gone"): "missing",
        used("folder", "", "."): names,
        used("folder", "", "gone"): "missing",
        used("exists", "", "a.txt"): sha("a"),
        used("exists", "", "sub"): "folder",
        used("exists", "", "a.txt", "7 bytes"): "1 bytes",
        used("exists", "", "gone", "7 bytes"): "missing",
        used("link", "", "link"): "link to a.txt",
        used("link", "", "a.txt"): sha("a"),
        used("module", "mod", "elsewhere.py"): sha("x = 1\n"),
        used("module", "nonesuch_mod", "a.txt"): sha("a"),
        used("variable", "FARM_TEST_X"): sha("value"),
        used("variable", "FARM_TEST_Y"): "not set",
        used("package", "numpy"): exact_version("numpy"),
        used("package", "nonesuch-package"): "absent",
        used("import", "mod", "sub"): sha("x = 1\n"),
        used("import", "nonesuch_mod"): "missing",
        used("import", "sys"): "found",
        used("current"): "..",
        used("config", "c", "", "as it was"): "as it was",
        used("unfollowed", "starts git", "", "x"): "x",
        used("sought", "a.txt", "beside"): sha("a"),
        used("sought", "gone.txt", "above"): "missing",
    }
    assert {one: dependencies.now(one, places) for one in today} == today


def test_a_state_holds_until_something_of_it_changes(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Where(project)
    monkeypatch.setenv("FARM_TEST_X", "value")
    entries = [
        used("file", "", "a.txt", sha("a")), used("variable", "FARM_TEST_X", "", sha("value")),
        used("package", "numpy", "", exact_version("numpy")),
    ]  # fmt: skip
    before = dependencies.state(entries, places)
    assert dependencies.holds(entries, places) and dependencies.changed(entries, places) == []
    assert dependencies.state(entries[::-1], places) == before
    (project / "a.txt").write_text("b")
    monkeypatch.setenv("FARM_TEST_X", "other")
    assert not dependencies.holds(entries, places)
    assert dependencies.changed([*entries, entries[0]], places) == ["a.txt", "$FARM_TEST_X"]
    after = dependencies.state(entries, places)
    assert after != before
    (project / "a.txt").write_text("a")
    monkeypatch.setenv("FARM_TEST_X", "value")
    assert dependencies.state(entries, places) == before
    as_json = '{"digest": "d", "kind": "config", "name": "c", "place": ""}'  # in keys of stores
    assert dependencies.state([used("config", "c", "", "d")], places) == sha(as_json)


def test_people_read_names_they_know() -> None:
    assert dependencies.called(used("variable", "X")) == "$X"
    assert dependencies.called(used("current")) == "the current folder"
    assert dependencies.called(used("module", "pkg.mod", "pkg/mod.py")) == "pkg/mod.py"
    for kind in ("file", "folder", "exists", "link"):
        assert dependencies.called(used(kind, "n", "p")) == "p"
    assert dependencies.called(used("package", "numpy", "p")) == "numpy"
    assert dependencies.called(used("import", "pkg", "p")) == "pkg"
    entries = [used("unfollowed", "starts git"), used("file", "n", "p"), used("unfollowed", "x")]
    assert dependencies.unfollowed(entries) == ["starts git", "x"]


def key(*entries: Used) -> str:
    return dependencies.as_key(entries)


def test_keys_are_the_same_wherever_the_project_lies() -> None:
    inside = used("file", "", "sub/a", "1")
    assert key(inside) == key(inside, used("current", "", "anywhere", "x")) != ""
    assert key() == "" == key(used("unfollowed", "x"))
    assert key(inside) != key(used("file", "", "sub/b", "1"))
    assert key(inside) != key(used("file", "", "sub/a", "2"))
    assert key(inside) != key(used("exists", "", "sub/a", "1"))
    # Outside of it base names count, and the order of the places.
    for outside in ("/opt/x/a", "../x/a"):
        moved = outside.replace("x", "y")
        assert key(used("file", "", outside, "1")) == key(used("file", "", moved, "1"))
        assert key(used("file", "", outside, "1")) != key(used("file", "", f"{outside}b", "1"))
    first, second = used("file", "", "/o/1/a", "x"), used("file", "", "/o/2/a", "y")
    swapped = used("file", "", "/o/1/a", "y"), used("file", "", "/o/2/a", "x")
    assert key(first, second) == key(second, first) != key(*swapped)
    assert key(used("sought", "/o/1/name", "beside", "1")) == key(
        used("sought", "/o/2/name", "beside", "1")
    )
    assert key(used("file", "named", "", "1")) == key(used("file", "named", "", "1"))
    assert key(used("file", "named", "", "1")) != key(used("file", "other", "", "1"))
    assert key(used("variable", "A", "", "1")) != key(used("variable", "B", "", "1"))


def test_what_was_sought_in_vain_is_in_no_key() -> None:
    inside = used("file", "", "a", "1")
    for kind in ("sought", "import"):
        assert key(inside, used(kind, "n", "p", fingerprints.MISSING)) == key(inside)
        assert key(inside, used(kind, "n", "p", "1")) != key(inside)
    assert key(inside, used("file", "n", "p", fingerprints.MISSING)) != key(inside)


def test_a_current_folder_that_was_removed_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert dependencies.current_folder(Where(tmp_path)) == "missing"


def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert fingerprints.content(tmp_path / "pipe") == "no file"
    assert fingerprints.content(tmp_path) == "no file"
    assert fingerprints.content(tmp_path / "a\0b") == "missing"
    (tmp_path / "__pycache__").mkdir()
    assert fingerprints.folder(tmp_path) == sha(json.dumps(["pipe"]))
    assert fingerprints.variable(b"") == sha("")
