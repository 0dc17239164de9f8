"""The farm's own code is in every key: what a change can reach is done again, all else is not."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PROJECT

from farm.models.records import EXPORTER
from farm.plan.content import closure
from farm.plan.content.modules import read

STAGES = {
    "check": ("farm.stages.check", "farm.sources.mmdet"),
    "prepare": ("farm.stages.prepare", "farm.preprocess.opencv"),
    "export": ("farm.stages.export", "farm.sources.mmdet"),
    "build openvino": ("farm.stages.build", "farm.runtimes.openvino"),
    "build onnxruntime": ("farm.stages.build", "farm.runtimes.onnxruntime"),
    "evaluate onnxruntime": ("farm.stages.evaluate", "farm.runtimes.onnxruntime"),
    "measure null": ("farm.stages.measure", "farm.runtimes.null"),
    "export onnx": ("farm.stages.export", "farm.sources.onnx"),
    "table of models": EXPORTER,
}

Edit = Callable[[str, Callable[[str], str]], set[str]]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Changes a file in a copy of the farm; returns what of `STAGES` has another digest then."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "farm"
    shutil.copytree(PROJECT / "farm", package, ignore=shutil.ignore_patterns("__pycache__"))

    def digests() -> dict[str, str]:
        read.cache_clear()
        closure.digest.cache_clear()
        return {name: closure.digest(roots, package) for name, roots in STAGES.items()}

    def change(file: str, how: Callable[[str], str]) -> set[str]:
        before, path = digests(), package / file
        text = path.read_text() if path.exists() else ""
        changed = how(text)
        assert changed != text
        path.write_text(changed)
        after = digests()
        return {name for name in STAGES if before[name] != after[name]}

    yield change
    read.cache_clear()
    closure.digest.cache_clear()


def added(line: str) -> Callable[[str], str]:
    return lambda text: f"{text}\n{line}\n"


FASTER = added("FASTER = True")

OF_THE_GRAPH = {"check", "export", "table of models"}


@pytest.mark.parametrize(
    ("file", "reached"),
    [
        ("sources/mmdet/dense/heads.py", OF_THE_GRAPH),
        ("sources/mmdet/patches/deform_conv.py", OF_THE_GRAPH),
        ("sources/mmdet/candidates.py", OF_THE_GRAPH),
        ("sources/onnx_files.py", OF_THE_GRAPH),
        ("sources/onnx_cleaning.py", OF_THE_GRAPH | {"export onnx"}),
        ("sources/simplify.py", {"export", "export onnx"}),
        ("sources/checkpoints/weights.py", {"check", "export"}),
        ("preprocess/transforms.py", {"check", "prepare", "export"}),
        ("preprocess/settings.py", {"export onnx"}),
        ("specs/pipeline.py", {"check", "prepare", "export", "export onnx"}),
        ("runtimes/openvino/adapter.py", {"build openvino"}),
        ("runtimes/onnxruntime/cpu_files.py", {"build onnxruntime", "evaluate onnxruntime"}),
        ("runtimes/openvino/probe.py", set()),
        ("runtimes/onnxruntime/cuda.py", set()),
        ("runtimes/base.py", set()),
        ("parts/registry.py", set()),
        ("stages/measure.py", {"measure null"}),
        ("detections/suppress.py", {"evaluate onnxruntime", "measure null"}),
        ("results/picking/select.py", set()),
        ("engine/cluster/executor.py", set()),
        ("errors.py", set()),
        ("__init__.py", set()),
    ],
)
def test_a_change_reaches_the_stages_that_run_it_and_no_others(
    edit: Edit, file: str, reached: set[str]
) -> None:
    assert edit(file, FASTER) == reached


def test_comments_docstrings_and_blank_lines_change_no_key(edit: Edit) -> None:
    file = "sources/mmdet/candidates.py"

    def reworded(text: str) -> str:
        text = re.sub(r'^""".*?"""', '"""Other words."""', text, flags=re.DOTALL)
        lines = [f"{line}  # why" if line.endswith(")") else line for line in text.splitlines()]
        return "\n\n".join(["# A comment.", *lines]) + "\n"

    assert not edit(file, lambda text: text.replace("\n\n\n", "\n\n\n\n# A comment.\n\n"))
    assert not edit("stages/measure.py", reworded)


def test_a_docstring_that_becomes_code_changes_the_key(edit: Edit) -> None:
    assert edit("stages/measure.py", added('NOTE = "a text that is a value"')) == {"measure null"}


def test_a_text_that_is_a_value_counts_to_its_last_space(edit: Edit) -> None:
    edit("stages/measure.py", added('NOTE = """one\n\ntwo"""\nPLACE = f"""a\n{NOTE}"""'))
    for text, other in (("one\n\ntwo", "one\ntwo"), ("one\n", "one \n"), ("a\n", "a  \n")):
        how = lambda source, text=text, other=other: source.replace(text, other)  # noqa: E731
        assert edit("stages/measure.py", how) == {"measure null"}


def test_a_module_that_comes_to_be_imported_within_a_function_is_reached(edit: Edit) -> None:
    edit("stages/later.py", lambda _: "VALUE = 1\n")
    late = "def late():\n    from farm.stages import later\n    return later.VALUE"
    assert edit("stages/measure.py", added(late)) == {"measure null"}
    assert edit("stages/later.py", lambda _: "VALUE = 2\n") == {"measure null"}


def test_a_module_for_type_checkers_alone_is_not_reached(edit: Edit) -> None:
    edit("stages/later.py", lambda _: "VALUE = 1\n")
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from farm.stages import later"
    edit("stages/measure.py", added(typed))
    assert not edit("stages/later.py", lambda _: "VALUE = 2\n")


def test_the_digest_is_the_same_with_and_without_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for cache in (tmp_path / "cache", tmp_path / "cache", Path("/proc/nowhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
        read.cache_clear()
        closure.digest.cache_clear()
        found.append(closure.digest(STAGES["export"]))
    assert len(set(found)) == 1


def test_what_is_imported_where_no_type_checker_looks_is_reached(edit: Edit) -> None:
    edit("stages/later.py", lambda _: "VALUE = 1\n")
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    VALUE = 0\n"
    edit("stages/measure.py", added(f"{typed}else:\n    from farm.stages.later import VALUE"))
    assert edit("stages/later.py", lambda _: "VALUE = 2\n") == {"measure null"}


def test_imports_name_their_modules_in_full() -> None:
    """The closure follows no relative ones."""
    for path in (PROJECT / "farm").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level], path


def test_every_module_that_is_found_by_name_is_a_root() -> None:
    """A module imported by a name that is put together is in no closure: `code_of` adds it."""
    found = {
        str(path.relative_to(PROJECT / "farm"))
        for path in (PROJECT / "farm").rglob("*.py")
        if re.search(r"(import_module|resolve_name)\(", path.read_text())
    }
    known = {
        "stages/__init__.py",
        "parts/registry.py",
        "preprocess/__init__.py",
        "engine/workers/forkserver.py",
    }
    of_the_user = {"sources/module.py"}
    commands = {"cli/main.py", "cli/parser.py"}  # which no step imports
    library = {"__init__.py", "called.py"}  # the API, which no step imports, either
    bundled = {"bundle/detector.py"}  # it is copied into bundles, and runs where the farm is not
    assert found <= known | of_the_user | commands | library | bundled
