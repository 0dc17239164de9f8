"""Modules found without importing them, and the user's files as planning sees them."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import MATRIX, PROJECT

from farm.config.loader import load_matrix
from farm.errors import InputError
from farm.plan import make_plan
from farm.plan.content import code, files
from farm.plan.content.configs import find_config
from farm.plan.content.files import NotThere
from farm.specs import ModelFacts


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module `one`, and a package `pack` with `sub.leaf`, on Python's path."""
    root = tmp_path / "site"
    (root / "pack" / "sub").mkdir(parents=True)
    for name in ("one.py", "pack/__init__.py", "pack/sub/__init__.py", "pack/sub/leaf.py"):
        (root / name).write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(root))
    return root


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("one", "one.py"), ("pack", "pack/__init__.py"), ("pack.sub", "pack/sub/__init__.py"),
        ("pack.sub.leaf", "pack/sub/leaf.py"), ("pack.gone", None), ("nonesuch_mod", None),
        ("nonesuch_mod.a", None), ("one.a", None), ("", None), ("pack..leaf", None),
        ("__main__", None), ("sys", None), ("sys.a", None),
    ],
)  # fmt: skip
def test_a_module_is_found_where_python_would(module: str, place: str | None, folder: Path) -> None:
    expected = folder / place if place else None
    assert code.find_module(module) == expected
    if not module.startswith("sys"):
        assert code.find_module(module, folder) == expected


def test_a_folder_of_ones_own_comes_before_what_is_installed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("x = 1\n")
    assert code.find_module("one", tmp_path) == tmp_path / "one.py"
    assert code.find_module("pack.sub", tmp_path) == folder / "pack" / "sub" / "__init__.py"


def test_what_is_sought_is_found_without_importing_it(folder: Path) -> None:
    for place in (None, folder):
        for module, file in (("one", "one.py"), ("pack.sub.leaf", "pack/sub/leaf.py")):
            spec = code.find_nested_spec(module, place)
            assert spec is not None and spec.origin == str(folder / file)
        for module in ("nonesuch_mod", "one.a", "pack.gone.a", "nonesuch_mod.a"):
            assert code.find_nested_spec(module, place) is None
    assert code.find_nested_spec("sys") is not None and code.find_nested_spec("sys", folder) is None


def test_a_module_that_is_nowhere_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"module 'gone' is neither in .* nor"):
        code.code_parts("gone", folder)


def test_a_users_file_is_there_and_not_empty(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    found = files.plain_file("checkpoint", "f", tmp_path)
    assert (found.path, found.digest) == (str(tmp_path / "f"), hashlib.sha256(b"x").hexdigest())
    (tmp_path / "f").write_text("")
    for name, what in (
        ("f", "is empty"),
        (".", "is a folder, not a file"),
        ("g", "does not exist"),
    ):
        with pytest.raises(NotThere) as error:
            files.plain_file("checkpoint", name, tmp_path)
        assert (error.value.kind, error.value.what) == ("checkpoint", what)
        assert str(error.value.at("m.yaml:3")) == (
            f"m.yaml:3: checkpoint {(tmp_path / name).resolve()} {what}"
        )


def test_images_count_by_name_and_size(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, what in (("images", "is empty"), ("gone", "does not exist")):
        with pytest.raises(NotThere) as error:
            files.image_folder(name, tmp_path)
        assert error.value.what == what
    (folder / "a.png").write_bytes(b"12")
    before = files.image_folder("images", tmp_path)
    (folder / "a.png").write_bytes(b"21")
    assert files.image_folder("images", tmp_path) == before
    (folder / "a.png").write_bytes(b"123")
    assert files.image_folder("images", tmp_path) != before
    (folder / "link.png").symlink_to("nowhere")  # none of the data set's, perhaps
    assert files.image_folder("images", tmp_path).path == str(folder)
    with pytest.raises(NotThere, match="is a file, not a folder"):
        files.image_folder("images/a.png", tmp_path)


def test_what_can_be_no_path_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no path"):
        files.expanded("a\0b", tmp_path)
    assert files.expanded("~/x", tmp_path) == Path.home() / "x"


def test_a_check_of_this_very_plan_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(MATRIX.format(demo=PROJECT / "matrices" / "demo"))
    matrix, facts = load_matrix(path), ModelFacts(("circle",), False, "[]")
    (check,) = make_plan(matrix).of_stage("check")
    mine = replace(check, key="0" * 64)
    plan = make_plan(matrix, lambda key: facts if key == mine.key else None, {"onestage": mine})
    assert plan.of_stage("check") == [mine] and plan.unchecked == ()
    assert make_plan(matrix, lambda key: facts).of_stage("check") == [check]


@pytest.mark.parametrize(
    ("source", "where"),
    [("x = 1\ny = (\n", "c.py:2"), (b"x = 1\0", "c.py:1"), ("(" * 50_000, None)],
)
def test_code_that_is_no_python_is_told_with_its_line(
    source: str | bytes, where: str | None
) -> None:
    with pytest.raises(InputError) as error:
        code.parsed(source, Path("c.py"))
    assert error.value.where == where or (where is None and error.value.where.startswith("c.py"))


def test_a_config_that_mmdet_ships_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "site" / "mmdet" / ".mim" / "configs" / "ssd" / "ssd300.py"
    shipped.parent.mkdir(parents=True)
    shipped.write_text("model = 1\n")
    (tmp_path / "site" / "mmdet" / "__init__.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "mmdet", raising=False)
    assert find_config("ssd/ssd300.py", tmp_path) == shipped
    assert find_config("ssd/other.py", tmp_path) is None
    own = tmp_path / "ssd" / "ssd300.py"
    own.parent.mkdir()
    own.write_text("model = 2\n")
    assert find_config("ssd/ssd300.py", tmp_path) == own
