"""Digests of code: which modules a stage runs, and which edits of a module change its digest."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from farm import catalog, specs
from farm.plan.content import closure
from farm.plan.content.closure import code_of, digest
from farm.plan.content.modules import Module, read
from farm.specs import Dims, File, Ref, Shape


def module(*imports: str, at_import: tuple[str, ...] = ()) -> Module:
    return Module("d", (*imports, *at_import), at_import)


def test_a_closure_has_what_is_imported_and_what_packages_on_the_way_import_at_once() -> None:
    modules = {
        "p": module("p.never"), "p.never": module(),
        "p.a": module("p.b.c.name", "other.thing"),
        "p.b": module("p.late", at_import=("p.early",)), "p.b.c": module(),
        "p.late": module(), "p.early": module("p.from_early"), "p.from_early": module(),
        "p.unused": module(),
    }  # fmt: skip
    assert closure.closure(["p.a"], modules) == {"p.a", "p.b", "p.b.c", "p.early", "p.from_early"}
    # Imported itself, a package counts with what its functions import.
    for roots in (["p.a", "p.b"], ["p.b", "p.a"]):
        assert closure.closure(roots, modules) == set(modules) - {"p", "p.never", "p.unused"}
    modules["p.a"] = module("p.b.c.name", "p.b")
    assert "p.late" in closure.closure(["p.a"], modules)
    assert closure.closure(["p.unused", "gone", "p.a.name"], modules) >= {"p.unused", "p.a"}
    assert closure.closure(["gone.x"], modules) == set()


def test_modules_that_import_one_another_are_reached_once() -> None:
    modules = {"p.a": module("p.b"), "p.b": module("p.a", "p.c"), "p.c": module("p.c")}
    assert closure.closure(["p.a"], modules) == {"p.a", "p.b", "p.c"}


def test_what_decides_no_result_is_in_no_closure() -> None:
    names = (
        "farm.errors", "farm.config.loader", "farm.plan.keys", "farm.store", "farm.store.figures",
        "farm.runtimes.openvino.probe", "farm.configs", "farm.specs.sizes", "farm.specs.pipeline",
        "farm.plan.content.config_files", "farm.specs.matrix", "farm.stages.x",
    )  # fmt: skip
    modules = {name: module() for name in names} | {"farm.a": module(*names)}
    assert closure.closure(["farm.a"], modules) == {
        "farm.a", "farm.configs", "farm.specs.sizes", "farm.specs.pipeline",
        "farm.plan.content.config_files", "farm.stages.x",
    }  # fmt: skip


SHAPE = Shape("s", *[Dims(1, 3, 64, 64)] * 3)
FILE = File("f", "d")
MMDET, ONNX = specs.Model("m", "mmdet", FILE, FILE), specs.OnnxModel("m", FILE)
OPTIONS = specs.EngineOptions("openvino", "fp32", SHAPE)
BUILT, TARGET = specs.Engine(OPTIONS, Ref("build", "k"), None), specs.Target("t", "cpu")
EAGER = specs.Engine(replace(OPTIONS, runtime="torch"), None, MMDET)
DRAWN, PREPARED = specs.ShapesDataset(1, 2, 64), Ref("prepare", "k")


def modules_of(*parts: Any) -> list[str]:
    return [part.module for part in parts]


FOUND_BY_NAME: list[tuple[str, Any, list[str]]] = [
    (
        "check", specs.CheckInputs(MMDET, DRAWN),
        modules_of(
            catalog.DATASETS["synthetic"], catalog.SOURCES["mmdet"], *catalog.preparers_of("mmdet")
        ),
    ),
    (
        "check", specs.CheckInputs(ONNX, None),
        modules_of(catalog.SOURCES["onnx"], *catalog.preparers_of("onnx")),
    ),
    (
        "prepare", specs.PrepareInputs("[]", SHAPE, DRAWN),
        ["farm.specs.sizes", *modules_of(catalog.preparer_of("[]"), catalog.DATASETS["synthetic"])],
    ),
    ("reference", specs.ReferenceInputs(MMDET, PREPARED, 1), modules_of(catalog.SOURCES["mmdet"])),
    ("export", specs.ExportInputs(ONNX, SHAPE, 17), modules_of(catalog.SOURCES["onnx"])),
    ("convert", specs.ConvertInputs(Ref("export", "k"), "fp16"), []),
    (
        "build", specs.BuildInputs(Ref("export", "k"), OPTIONS, TARGET),
        modules_of(catalog.RUNTIMES["openvino"]),
    ),
    (
        "verify",
        specs.VerifyInputs(BUILT, PREPARED, Ref("reference", "k"), 80, 0.5, "box", TARGET),
        modules_of(catalog.RUNTIMES["openvino"]),
    ),
    (
        "evaluate",
        specs.EvaluateInputs(EAGER, PREPARED, Ref("reference", "k"), (), True, 0.5, "box", TARGET),
        modules_of(catalog.RUNTIMES["torch"], catalog.SOURCES["mmdet"]),
    ),
    (
        "measure", specs.MeasureInputs(BUILT, PREPARED, TARGET, 1, 1, 1, 1, 1),
        modules_of(catalog.RUNTIMES["openvino"]),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "values", "others"), FOUND_BY_NAME)
def test_a_stage_runs_its_own_module_and_those_that_it_finds_by_name(
    stage: str, values: Any, others: list[str]
) -> None:
    own, modules = f"farm.stages.{stage}", read(closure.PACKAGE)
    assert code_of(stage, values) == digest((own, *others))
    for other in others:
        rest = [one for one in others if one != other]
        if other not in closure.closure([own, *rest], modules):
            assert code_of(stage, values) != digest((own, *rest))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


SOURCE = """
'''What it is.'''
import os
from toy.used import thing  # why

LIMIT = 3
'''Of something.'''

TEXT = '''
  first
  second  # no comment

'''

def run(value: int) -> int:
    # a comment
    '''Do it.'''
    from toy import late
    return value + LIMIT
"""


def digest_of(toy: Path, number: int, source: str, **others: str) -> str:
    """The digest of `toy.a` in a package of its own."""
    package = toy / str(number) / "toy"
    package.mkdir(parents=True)
    texts = {"__init__": "", "used": "thing = 1", "late": "x = 1", "other": "y = 1"}
    for name, text in {**texts, **others, "a": source}.items():
        (package / f"{name}.py").write_text(textwrap.dedent(text))
    return digest(("toy.a",), package)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'''What it is.'''", "'''What it was.'''"), ("  # why", ""), ("# a comment\n", "#\n"),
        ("'''Do it.'''", "'''Do it,\n\n    at once.'''"), ("'''Of something.'''", ""),
        ("LIMIT = 3\n", "LIMIT = 3   \n\n\n"), ("import os\n", "\nimport os\n# all\n"),
    ],
)  # fmt: skip
def test_comments_docstrings_and_blank_lines_do_not_count(toy: Path, old: str, new: str) -> None:
    assert old in SOURCE
    assert digest_of(toy, 1, SOURCE) == digest_of(toy, 2, SOURCE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"), ("# no comment", "# a comment"), ("  first", " first"),
        ("second  # no comment\n\n", "second  # no comment\n"), ("value + LIMIT", "value - LIMIT"),
        ("  first\n", "  first \n"), ("import os\n", "import os, re\n"),
        ("    return value", "    print(value)\n    return value"),
    ],
)  # fmt: skip
def test_code_and_texts_that_are_values_count(toy: Path, old: str, new: str) -> None:
    assert old in SOURCE
    assert digest_of(toy, 1, SOURCE) != digest_of(toy, 2, SOURCE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("source", "others", "counts"),
    [
        ("from toy import other", {}, True),
        ("import toy.other", {}, True),
        ("from toy.other import y", {}, True),
        ("def f():\n    import toy.other", {}, True),
        ("async def f():\n    import toy.other", {}, True),
        ("class C:\n    import toy.other", {}, True),
        ("from . import x", {}, False),
        ("import os", {}, False),
        ("if TYPE_CHECKING:\n    import toy.other", {}, False),
        ("if TYPE_CHECKING:\n    x = 1\nelse:\n    import toy.other", {}, True),
        ("import toy.used", {"used": "if 1:\n    import toy.other"}, True),
        # The outermost package holds the version alone.
        ("import toy.used", {"__init__": "import toy.other"}, False),
    ],
)
def test_what_is_imported_counts(
    toy: Path, source: str, others: dict[str, str], counts: bool
) -> None:
    first = digest_of(toy, 1, source, **others)
    assert (first != digest_of(toy, 2, source, **others, other="y = 2")) == counts


def test_modules_can_be_left_out_with_what_only_they_import(toy: Path) -> None:
    source = "import toy.used"
    digest_of(toy, 1, source, used="import toy.other")
    digest_of(toy, 2, source, used="import toy.other", other="y = 2")
    packages = [toy / str(number) / "toy" for number in (1, 2)]
    whole = [digest(("toy.a",), package) for package in packages]
    bare = [digest(("toy.a",), package, ("toy.used",)) for package in packages]
    assert whole[0] != whole[1] and bare[0] == bare[1] != whole[0]


def test_what_was_parsed_is_kept_and_a_torn_file_is_made_again(toy: Path) -> None:
    package, at_import = toy / "1" / "toy", ["os", "toy.used.thing"]

    def again() -> str:
        read.cache_clear()
        digest.cache_clear()
        return digest(("toy.a",), package)

    first = digest_of(toy, 1, SOURCE)
    (kept,) = (toy / "cache" / "farm" / "code").glob("*.json")
    said = json.loads(kept.read_text())
    assert set(said) == {"toy", "toy.a", "toy.used", "toy.late", "toy.other"}
    assert said["toy.a"]["imports"] == [*at_import, "toy.late"]
    assert said["toy.a"]["at_import"] == at_import
    said["toy.a"]["digest"] = "0" * 64
    kept.write_text(json.dumps(said))
    assert again() != first
    for torn in ("", "[1]", '{"toy": 1}', '{"toy": {"digest": "d"}}'):
        kept.write_text(torn)
        assert again() == first
        assert json.loads(kept.read_text())["toy.a"]["at_import"] == at_import
