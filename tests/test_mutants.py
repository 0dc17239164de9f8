"""`tools/mutants.py`: what it breaks, what it leaves alone, and which tests it runs, and how."""

from __future__ import annotations

import ast
import contextlib
import faulthandler
import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def no_watchdog() -> None:
    """Without the thread of `faulthandler_timeout`: pytest in a fork would wait for it forever."""
    faulthandler.cancel_dump_traceback_later()


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


@pytest.fixture(scope="module")
def runs(tool: Any) -> Any:
    return importlib.import_module("mutant_runs")


@pytest.fixture(scope="module")
def forks(tool: Any) -> Any:
    return importlib.import_module("mutant_forks")


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
        "put(path, durable=False)", "json.dumps(found, indent=1)",
        "{'labelFontSize': 12, 'dx': -7, 'strokeDash': [5, 3], 'labelLimit': 220}",
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


def test_the_source_of_a_mutant_differs_in_that_place_alone(mutations: Any) -> None:
    path = PROJECT / "farm" / "store" / "figures.py"
    mutants = mutations.mutants(path)
    plain = ast.unparse(ast.parse(path.read_text())).splitlines()
    for one in random.Random(0).sample(mutants, 8):
        lines = mutations.source(one).splitlines()
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
    runs: Any,
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
    monkeypatch.setattr(runs, "LIMIT_S", limit)
    found = mutations.mutants(tmp_path / "own.py")
    (mutant,) = [one for one in found if one.after == "number - 1"]
    assert runs.survives(mutant, ["test_own.py"], [], tmp_path) is alive
    assert "number + 1" in (tmp_path / "own.py").read_text()


OWN = """\
import functools

LARGE = 1 + 1

def value(number, step=3):
    return number + 1

def table():
    return [one + 1 for one in range(3)]

TABLE = table()

@functools.cache
def kept(number):
    return number + 1

kept(1)

def adder(number):
    def add(other):
        return other + number
    return add

add_one = adder(1)

class Box:
    size = 1 + 1

    @property
    def width(self):
        return self.size + 1
"""


@pytest.mark.parametrize(
    ("line", "test", "verdict"),
    [
        (6, "assert value(1) == 2", "NOTICED"),
        (6, "assert value(1) is not None", "UNNOTICED"),
        (6, "assert 'number - 1' not in open(own.__file__).read()", "NOTICED"),
        (6, "while value(1) != 2: pass", "NOTICED"),
        (6, "value(1) == 2 or os._exit(0)", "NOTICED"),
        (6, "assert False", "UNKNOWN"),  # as without the mutant
        (3, "assert own.LARGE == 2", "UNKNOWN"),
        (5, "assert value(1) == 2", "UNKNOWN"),
        (9, "assert own.table() == [1, 2, 3]", "NOTICED"),
        (9, "assert own.TABLE == [1, 2, 3]", "UNKNOWN"),  # it has run at import
        (15, "assert own.kept(1) == 2", "NOTICED"),
        (21, "assert own.add_one(1) == 2", "NOTICED"),
        (21, "assert own.adder(1)(1) == 2", "NOTICED"),
        (27, "assert own.Box().width == 3", "UNKNOWN"),
        (31, "assert own.Box().width == 3", "NOTICED"),
    ],
)
def test_a_fork_says_of_a_mutant_only_what_it_has_seen(
    runs: Any,
    forks: Any,
    mutations: Any,
    line: int,
    test: str,
    verdict: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "own.py").write_text(OWN)
    (project / "test_own.py").write_text(
        f"import os\nimport own\nfrom own import value\n\ndef test_one():\n    {test}\n"
        "\ndef test_other():\n    assert False\n"
    )
    (project / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    monkeypatch.setattr(mutations, "ROOT", project)
    monkeypatch.setattr(runs, "LIMIT_S", 3 if "while" in test else 120)
    found = [one for one in mutations.mutants(project / "own.py") if one.line == line]
    mutant = max(found, key=lambda one: ("return" not in one.before, len(one.before)))
    with contextlib.closing(forks.Collected(project)) as collected:
        assert collected.verdict(mutant, ["test_own.py::test_one"]).name == verdict
        assert collected.verdict(mutant, []).name in ("UNKNOWN", "UNNOTICED")
    assert (project / "own.py").read_text() == OWN


def test_the_command_says_of_every_mutant_whether_it_survived(
    tool: Any,
    mutations: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    coverage = pytest.importorskip("coverage")
    module, tests = tmp_path / "farm" / "plan" / "own.py", tmp_path / "tests" / "plan"
    module.parent.mkdir(parents=True)
    tests.mkdir(parents=True)
    for folder in (module.parent, module.parent.parent):
        (folder / "__init__.py").touch()
    module.write_text("LARGE = True\n\ndef value(number):\n    return number + number\n")
    (tests / "test_own.py").write_text(
        "from farm.plan import own\n\ndef test_one():\n    assert own.value(0) == 0\n\n"
        "def test_other():\n    assert own.LARGE\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    data = coverage.CoverageData(str(tmp_path / "data"))
    for context, line in (("plan.test_own.test_one", 4), ("", 1)):
        data.set_context(context)
        data.add_lines({str(module): [line]})
    data.write()
    for one in (tool, mutations, importlib.import_module("mutant_tests")):
        monkeypatch.setattr(one, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "preload", lambda: None)
    monkeypatch.setattr(sys, "argv", ["mutants.py", "--all", "--data", str(tmp_path / "data")])
    for name in [one for one in sys.modules if one == "farm" or one.startswith("farm.")]:
        monkeypatch.delitem(sys.modules, name)  # as in a process of its own
    assert tool.main() == 1
    lines = capsys.readouterr().out.splitlines()
    survived = "farm/plan/own.py:4: number + number  ->  number - number"
    assert [one.split()[0] for one in lines[:3]] == ["noticed", "noticed", "SURVIVED"]
    assert lines[3:] == ["1 of 3 mutants survived (all):", f"  {survived}"]


def test_tests_are_those_that_reach_the_line_and_of_others_the_packages_own(
    mutations: Any, tmp_path: Path
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
    reach = importlib.import_module("mutant_tests").Reach(tmp_path / "data")
    mutants = [
        mutations.Mutant("farm/engine/scheduler.py", 0, line, "", "") for line in (1, 2, 3, 4)
    ]
    found = [reach.tests(one) for one in mutants]
    function = f"tests/engine/test_scheduler.py::{known}"
    assert found[0] == [function]
    assert found[1][:2] == [function, "tests/engine/"]
    assert "tests/engine/test_scheduler.py" in found[1] and found[1][1:] == found[2] == found[3]
    slow = {"tests/engine/test_exits.py", "tests/engine/test_ray_cluster.py"}
    others = ("test_gpu_shares", "test_own_raylet", "test_ray_executor")
    more = slow | {f"tests/engine/{name}.py" for name in others}
    assert [set(reach.slow(one)) for one in mutants] == [slow, slow, more, more]
