"""`tools/mutants.py`: what it breaks, what it leaves alone, and which tests it runs."""

from __future__ import annotations

import ast
import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tool() -> Any:
    sys.path.insert(0, str(PROJECT / "tools"))
    try:
        return importlib.import_module("mutants")
    finally:
        sys.path.pop(0)


@pytest.fixture(scope="module")
def mutations(tool: Any) -> Any:
    return importlib.import_module("mutations")


def broken(mutations: Any, source: str) -> list[str]:
    """Every mutant of the source, as its text."""
    found = []
    for number in range(len(list(mutations.places(ast.parse(source))))):
        tree = ast.parse(source)
        parent, name, position = list(mutations.places(tree))[number]
        if position is None:
            setattr(parent, name, mutations.changed(getattr(parent, name)))
        else:
            getattr(parent, name)[position] = mutations.changed(getattr(parent, name)[position])
        found.append(ast.unparse(ast.fix_missing_locations(tree)))
    return found


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("a < b", ["a <= b"]),
        ("a is b", ["a is not b"]),
        ("a + b", ["a - b"]),
        ("a and b", ["a or b"]),
        ("not a", ["a"]),
        ("x = True", ["x = False"]),
        ("x = 3", ["x = 4"]),
        ("def f():\n    return a", ["def f():\n    return None"]),
        ("for a in b:\n    continue", ["for a in b:\n    break"]),
        ("if a:\n    b", ["if not a:\n    b"]),
        ("a > b + 1e-9", ["a > b - 1e-09", "a > b + 1.000000001"]),
        ("if a < b:\n    c", ["if not a < b:\n    c", "if a <= b:\n    c"]),
    ],
)
def test_each_kind_of_place_is_broken(mutations: Any, source: str, mutants: list[str]) -> None:
    assert broken(mutations, source) == mutants


@pytest.mark.parametrize(
    "source",
    [
        "x: int | None", "def f(a: int | None) -> int | None: ...", "@f(1 + 1)\ndef g(): ...",
        "'text'", "x = 'text'", "log.debug('%d', 1 + 1)", "if TYPE_CHECKING:\n    x = 1",
        "MOST_BYTES = 1 << 20", "_MOST = 3", "LONGEST_TEXT = 10", "CHECK_S = 300.0",
        "f(timeout=60)", "for _ in range(3): ...", "time.sleep(0.1)", "file.read(1 << 20)",
        "put(path, durable=False)", "{'labelFontSize': 12, 'dx': -7, 'strokeDash': [5, 3]}",
        "zip(a, b, strict=True)", "NAMES = {1: 'a', 0x2F: 'b'}",
    ],
)  # fmt: skip
def test_what_no_test_should_notice_is_left_out(mutations: Any, source: str) -> None:
    assert broken(mutations, source) == []


@pytest.mark.parametrize(
    "source",
    ["for i in range(3): ...", "sleep(pause + x)", "file.read(4)", "{'size': 12}", "{'dx': a < b}"],
)
def test_what_only_looks_like_that_is_broken(mutations: Any, source: str) -> None:
    assert len(broken(mutations, source)) == 1


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("if a == b:\n    c", ["if a != b:\n    c"]),
        ("if not a:\n    c", ["if a:\n    c"]),
        ("c if a in b else d", ["c if a not in b else d"]),
        ("while True:\n    c", ["while False:\n    c"]),
    ],
)
def test_the_same_mutant_is_not_made_twice(mutations: Any, source: str, mutants: list[str]) -> None:
    assert broken(mutations, source) == mutants


def test_a_seed_gives_the_same_mutants_of_all_packages(tool: Any) -> None:
    first, again, other = (tool.sample(60, seed, "") for seed in (1, 1, 2))
    assert first == again != other
    assert {Path(one.path).parts[1] for one in first} == set(tool.PACKAGES)
    assert len(set(first)) == 60
    assert {one.path for one in tool.sample(9, 1, "store/figures")} == {"farm/store/figures.py"}


def test_the_source_of_a_mutant_differs_in_that_place_alone(tool: Any) -> None:
    path = PROJECT / "farm" / "store" / "figures.py"
    mutants = tool.mutants(path)
    plain = ast.unparse(ast.parse(path.read_text())).splitlines()
    for one in random.Random(0).sample(mutants, 8):
        lines = tool.source(one).splitlines()
        assert sum(a != b for a, b in zip(plain, lines, strict=True)) == 1


@pytest.mark.parametrize(
    ("test", "limit", "alive"),
    [
        ("assert own.value(1) == 2", 60, False),
        ("assert own.value(1) is not None", 60, True),
        ("import time; own.value(1) == 2 or time.sleep(60)", 3, False),
    ],
)
def test_a_mutant_that_fails_or_hangs_a_test_is_noticed_and_put_back(
    tool: Any,
    mutations: Any,
    test: str,
    limit: int,
    alive: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "own.py").write_text("def value(number):\n    return number + 1\n")
    (tmp_path / "test_own.py").write_text(f"import own\n\ndef test_one():\n    {test}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    monkeypatch.setattr(mutations, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "LIMIT_S", limit)
    (mutant,) = [one for one in tool.mutants(tmp_path / "own.py") if one.after == "number - 1"]
    assert tool.survives(mutant, ["test_own.py"], [], tmp_path) is alive
    assert "number + 1" in (tmp_path / "own.py").read_text()


def test_tests_are_those_that_reach_the_line_and_of_others_the_packages_own(
    tool: Any, tmp_path: Path
) -> None:
    coverage = pytest.importorskip("coverage")
    path = PROJECT / "farm" / "engine" / "scheduler.py"
    data = coverage.CoverageData(str(tmp_path / "data"))
    known = "test_parents_run_before_children_and_a_shared_step_once"
    for context, lines in (
        (f"engine.test_scheduler.{known}", [1, 2]), ("engine.test_scheduler.test_gone", [1, 2]),
        ("", [2, 3]),
    ):  # fmt: skip
        data.set_context(context)
        data.add_lines({str(path): lines})
    data.write()
    reach = tool.Reach(tmp_path / "data")
    mutants = [tool.Mutant("farm/engine/scheduler.py", 0, line, "", "") for line in (1, 2, 3, 4)]
    found = [reach.tests(one) for one in mutants]
    function = f"tests/engine/test_scheduler.py::{known}"
    assert found[0] == [function]
    assert found[1][:2] == [function, "tests/engine/"]
    assert "tests/engine/test_scheduler.py" in found[1] and found[1][1:] == found[2] == found[3]
    slow = {"tests/engine/test_exits.py", "tests/engine/test_ray_cluster.py"}
    more = slow | {"tests/engine/test_gpu_shares.py", "tests/engine/test_ray_executor.py"}
    assert [set(reach.slow(one)) for one in mutants] == [slow, slow, more, more]
