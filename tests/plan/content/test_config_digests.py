"""Configs as planning reads them, and keys: which bases count, and which values decide a key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from farm.errors import InputError
from farm.plan.content.config_files import candidates, first, refuse_text, refuse_values
from farm.plan.content.configs import config_file, config_parts, find_config
from farm.plan.keys import canonical, step_key
from farm.specs import Dims


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_config_is_itself_and_the_bases_that_it_writes_out(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    texts = {
        "c.py": "_base_ = ['./a.py', 'sub/b.py']\n", "a.py": "_base_ = 'd.py'\n",
        "sub/b.py": "_base_: str = '../d.py'\n", "d.py": "x = 1\n",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    parts = [tmp_path / name for name in ("c.py", "a.py", "d.py", "sub/b.py")]
    assert config_parts(tmp_path / "c.py") == parts
    expected = sha256(b"".join(part.read_bytes() + b"\0" for part in parts))
    found = config_file("c.py", tmp_path)
    assert (found.path, found.digest) == (str(tmp_path / "c.py"), expected)
    assert find_config("c.py", tmp_path) == tmp_path / "c.py"
    assert find_config("gone.py", tmp_path) is None
    with pytest.raises(InputError, match=f"neither a file .looked at {tmp_path / 'gone.py'}"):
        config_file("gone.py", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "_base_ = [1]", "_base_ = name", "_base_ = {'a': 1}",
        "_base_ = './a.py'\n_base_ = './b.py'",
        "if 1:\n    _base_ = './a.py'", "_base_: str", "other = './a.py'", "x = _base_",
        "_base_ = a, b = './a.py', './b.py'",
    ],
)  # fmt: skip
def test_bases_that_are_not_written_out_are_found_when_the_config_runs(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "c.py").write_text(text)
    assert config_parts(tmp_path / "c.py") == [tmp_path / "c.py"]


def test_names_of_the_file_are_filled_in_as_mmcv_does(tmp_path: Path) -> None:
    (tmp_path / "base.x.py").write_text("x = 1\n")
    own = tmp_path / "x.py"
    for text in (
        "_base_ = '{{ fileDirname }}/base.{{fileBasename}}'\n",
        "_base_ = './base.{{ fileBasenameNoExtension}}{{fileExtname }}'\n",
    ):
        own.write_text(text)
        assert config_parts(own) == [own, tmp_path / "base.x.py"]
    (tmp_path / "c.json").write_text('{"_base_": "./gone.py"}')
    assert config_parts(tmp_path / "c.json") == [tmp_path / "c.json"]


def test_bases_are_there_and_form_no_circle(tmp_path: Path) -> None:
    (tmp_path / "gone.py").write_text("_base_ = './none.py'")
    (tmp_path / "self.py").write_text("_base_ = './self.py'")
    (tmp_path / "bytes.py").write_bytes(b"x = '\xff'")
    for name, said in (
        ("gone.py", f"config {tmp_path / 'gone.py'} has a _base_ that is not there"),
        ("self.py", f"config {tmp_path / 'self.py'} is its own _base_"),
        ("bytes.py", "not UTF-8, which mmcv reads configs as"),
    ):
        with pytest.raises(InputError, match=said):
            config_parts(tmp_path / name)


def test_bases_have_a_hundred_levels_at_most(tmp_path: Path) -> None:
    for level in range(103):
        (tmp_path / f"l{level}.py").write_text(f"_base_ = './l{level + 1}.py'")
    (tmp_path / "l102.py").write_text("x = 1")
    assert len(config_parts(tmp_path / "l2.py")) == 101
    with pytest.raises(InputError, match="its bases have more than 100 levels") as error:
        config_parts(tmp_path / "l1.py")
    assert error.value.where == str(tmp_path / "l1.py")


def test_a_base_is_not_read_over_and_over(tmp_path: Path) -> None:
    """Each level doubles what mmcv reads; a thousand are allowed."""
    for level in range(9):
        base = f"'./d{level + 1}.py'"
        (tmp_path / f"d{level}.py").write_text(f"_base_ = [{base}, {base}]")
    (tmp_path / "d9.py").write_text("x = 1")
    assert len(config_parts(tmp_path / "d1.py")) == 9
    with pytest.raises(InputError, match="mmcv would read 1023 bases"):
        config_parts(tmp_path / "d0.py")
    fits, more = (["'./d1.py'", *["'./d9.py'"] * number] for number in (1000 - 511 - 1, 1000 - 511))
    (tmp_path / "d0.py").write_text(f"_base_ = [{', '.join(fits)}]")
    assert len(config_parts(tmp_path / "d0.py")) == 10
    (tmp_path / "d0.py").write_text(f"_base_ = [{', '.join(more)}]")
    with pytest.raises(InputError, match="mmcv would read 1001 bases"):
        config_parts(tmp_path / "d0.py")


@pytest.mark.parametrize(
    ("text", "line", "sign"),
    [
        ("x = 1\nwith read_base():\n    from a import *", 2, "`with read_base()`"),
        ("with open('f'), mm.read_base():\n    pass", 1, "`with read_base()`"),
        ("\n\nfrom mmengine.config import x", 3, "it imports mmengine"),
        ("_base_ = ['a.py', 'mmdet::b.py']", 1, "its `_base_` is 'mmdet::b.py'"),
        ("_base_ = 'mmdet::b.py'", 1, "its `_base_` is 'mmdet::b.py'"),
    ],
)
def test_a_config_of_mmdetection_3_is_known_by_its_text(text: str, line: int, sign: str) -> None:
    with pytest.raises(InputError) as error:
        refuse_text(text, "c.py")
    assert error.value.where == f"c.py:{line}" and f"({sign})" in error.value.message


@pytest.mark.parametrize(
    "text",
    [
        "_base_ = ['a.py', 3]", "with open('f'):\n    pass", "from mmcv import Config",
        "from . import x", "import mmengine_like", "x = 'mmdet::b.py'", "_base_ = 3", "x = (",
        "from mmengines import x",
    ],
)  # fmt: skip
def test_another_text_says_nothing_of_mmdetection_3(text: str) -> None:
    refuse_text(text, "c.py")


@pytest.mark.parametrize(
    ("config", "sign"),
    [
        ({"model": {"data_preprocessor": 1}, "data": {"test": 1}}, "a `data_preprocessor`"),
        ({"default_scope": "mmdet"}, "`default_scope`, and no"),
        (
            {"model": {"type": "mmdet.SSD"}, "optim_wrapper": 1, "data": {"train": 1}},
            "`optim_wrapper` and its model is 'mmdet.SSD', and no",
        ),
        ({"data_preprocessor": 1, "data": 3}, "it has `data_preprocessor`, and no"),
        ({"test_dataloader": 1}, "`test_dataloader`"), ({"test_evaluator": 1}, "`test_evaluator`"),
        ({"default_scope": "mmdet", "data": {"test": {}}}, "`default_scope`"),
        ({"default_scope": "mmdet", "data": {"test": 1}}, None),
        ({"model": {"type": "SSD"}}, None), ({}, None), ({"model": None, "data": None}, None),
        ({"model": "data_preprocessor"}, None), ({"model": {"type": None}}, None),
    ],
)  # fmt: skip
def test_a_config_of_mmdetection_3_is_known_by_its_values(
    config: dict[str, Any], sign: str | None
) -> None:
    if sign is None:
        refuse_values(config, "c.py")
        return
    with pytest.raises(InputError) as error:
        refuse_values(config, "c.py")
    assert sign in error.value.message and error.value.where == "c.py"


def test_a_file_is_sought_in_the_current_folder_then_beside_the_config_then_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, folder = tmp_path / "here", tmp_path / "a" / "b"
    here.mkdir()
    folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert list(candidates("f", folder, "beside")) == [here / "f", folder / "f"]
    above = list(candidates("f", folder, "above"))
    assert above[:4] == [here / "f", folder / "f", tmp_path / "a" / "f", tmp_path / "f"]
    assert above[-1] == Path("/f") and len(set(above)) == len(above)
    assert first("f", folder, "above") is None
    (tmp_path / "a" / "f").write_text("x")
    (folder / "f").mkdir()
    assert first("f", folder, "above") == tmp_path / "a" / "f"
    assert first("f", folder, "beside") is None


@dataclass(frozen=True)
class Inner:
    name: str = field(metadata={"key": False})
    size: int = 3


@dataclass(frozen=True)
class Outer:
    inner: Inner
    dims: Dims
    more: tuple[Any, ...] = ()
    later: str = field(default="", metadata={"default_in_key": False})
    values: Any = None


DIMS = Dims(1, 3, 4, 5)


def test_a_key_has_values_and_neither_names_nor_later_fields_at_their_default() -> None:
    outer = Outer(Inner("n"), DIMS, (1, 2.5, None, True, [Inner("m", 4)]))
    expected = {
        "inner": {"size": 3}, "dims": {"n": 1, "c": 3, "h": 4, "w": 5},
        "more": [1, 2.5, None, True, [{"size": 4}]], "values": None,
    }  # fmt: skip
    assert canonical(outer) == expected == canonical(outer)
    later = canonical(Outer(Inner("n"), DIMS, later="x", values={"b": 1, "a": (3,)}))
    assert later["later"] == "x" and list(later["values"]) == ["a", "b"]
    assert later["values"] == {"a": [3], "b": 1} and later["more"] == []


def test_a_key_is_the_digest_of_all_that_decides() -> None:
    text = '{"inputs":{"size":3},"stage":"s","toolchain":[["t","1"]],"version":"c"}'
    tools = (("t", "1"),)
    assert step_key("s", "c", Inner("n"), tools) == sha256(text.encode())
    keys = {
        step_key("s", "c", Inner("n"), tools), step_key("t", "c", Inner("n"), tools),
        step_key("s", "d", Inner("n"), tools), step_key("s", "c", Inner("n", 4), tools),
        step_key("s", "c", Inner("n"), (("t", "2"),)), step_key("s", 3, Inner("n"), tools),
    }  # fmt: skip
    assert len(keys) == 6
    with pytest.raises(ValueError, match="JSON compliant"):
        step_key("s", "c", float("nan"), ())
