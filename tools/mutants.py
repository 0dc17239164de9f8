"""Break the code on purpose, one place at a time, and see which breaks no test notices.

    python tools/mutants.py [--count 60] [--seed 1] [--only engine/scheduler]

Takes places by seed from the packages below: operators, comparisons, conditions, constants,
returned values. Each mutant is written into a copy of the project, where the tests without engines
that reach the line are run, as the data of `make coverage` says (of lines that run at import: the
tests that import the module). Prints the survivors; ends with 1 if they are more than 5 %.

Libraries for this (mutmut, cosmic-ray) run one command for all mutants, or load the tests into one
process, which those that begin processes or Ray do not survive.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("config", "engine", "plan", "results", "store")
MOST_SURVIVORS = 0.05
LIMIT_S = 120
"""For the tests of one mutant: one that hangs them is noticed as well."""

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """path: of the module, from the project's folder. number: of the place in it."""

    path: str
    number: int
    line: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def changed(node: ast.AST) -> ast.AST | None:
    """Another node in its place; None where there is nothing to break."""
    other = copy.deepcopy(node)
    match other:
        case ast.Compare(ops=[one]) if type(one) in _COMPARISONS:
            other.ops = [_COMPARISONS[type(one)]()]
        case ast.BinOp(op=one) if type(one) in _OPERATORS:
            other.op = _OPERATORS[type(one)]()
        case ast.BoolOp(op=ast.And()):
            other.op = ast.Or()
        case ast.BoolOp(op=ast.Or()):
            other.op = ast.And()
        case ast.UnaryOp(op=ast.Not()):
            return other.operand
        case ast.If() | ast.IfExp() | ast.While():
            other.test = ast.UnaryOp(ast.Not(), other.test)
        case ast.Constant(value=bool(value)):
            other.value = not value
        case ast.Constant(value=int(value)) | ast.Constant(value=float(value)):
            other.value = value + 1
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            other.value = ast.Constant(None)
        case ast.Continue():
            return ast.Break()
        case _:
            return None
    return other


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Parent, field and position of every node that can be broken, in a fixed order.

    Neither annotations nor what mypy alone reads, nor texts, nor how a dataclass is made.
    """
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        several = isinstance(value, list)
        for position, node in enumerate(value if several else [value]):
            if not isinstance(node, ast.AST) or _for_types(node):
                continue
            if changed(node) is not None:
                yield tree, name, position if several else None
            yield from places(node)


def _for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def mutants(path: Path) -> list[Mutant]:
    """Every mutant of a module."""
    found = []
    for number, (parent, name, position) in enumerate(places(ast.parse(path.read_text()))):
        node = getattr(parent, name)
        node = node if position is None else node[position]
        before, after = (_short(ast.unparse(one)) for one in (node, changed(node)) if one)
        found.append(Mutant(str(path.relative_to(ROOT)), number, node.lineno, before, after))
    return found


def _short(text: str) -> str:
    return text.splitlines()[0][:60]


def source(mutant: Mutant) -> str:
    """The module's text with the mutant in it."""
    tree = ast.parse((ROOT / mutant.path).read_text())
    parent, name, position = list(places(tree))[mutant.number]
    if position is None:
        setattr(parent, name, changed(getattr(parent, name)))
    else:
        getattr(parent, name)[position] = changed(getattr(parent, name)[position])
    return ast.unparse(ast.fix_missing_locations(tree))


class Reach:
    """Which tests reach a line, as the last `make coverage` saw it."""

    def __init__(self, data: Path) -> None:
        from coverage import CoverageData

        self._data = CoverageData(str(data))
        self._data.read()
        self._files = {path.stem: path for path in sorted((ROOT / "tests").rglob("test_*.py"))}
        self._texts = {path: path.read_text() for path in self._files.values()}

    def tests(self, mutant: Mutant) -> list[str]:
        """For pytest: the test functions, else the files that import the module; first those of
        the package's own folder, which say soonest what is wrong."""
        lines = self._data.contexts_by_lineno(str(ROOT / mutant.path))
        named = {test for one in lines.get(mutant.line, ()) if (test := self._test(one))}
        own = f"tests/{Path(mutant.path).parts[1]}/"
        found = named or self._importing(mutant.path) or [own]
        return sorted(found, key=lambda test: (not test.startswith(own), "fuzz" in test, test))

    def _test(self, context: str) -> str | None:
        module, _, function = context.rpartition(".")
        path = self._files.get(module.rpartition(".")[2])
        return f"{path.relative_to(ROOT)}::{function}" if path else None

    def _importing(self, path: str) -> list[str]:
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        package, _, name = module.rpartition(".")
        signs = (module, f"from {package} import", f"import {name}")
        return [
            str(test.relative_to(ROOT))
            for test, text in self._texts.items()
            if signs[0] in text or (signs[1] in text and name in text.split(signs[1])[1][:200])
        ]


def survives(mutant: Mutant, tests: Sequence[str], project: Path) -> bool:
    """Whether all of the tests pass with the mutant in the copy of the project."""
    path = project / mutant.path
    kept = path.read_text()
    path.write_text(source(mutant))
    child = os.fork()
    if child == 0:
        _run(tests, project)
    try:
        return _exit_code(child) == 0
    finally:
        path.write_text(kept)


def _run(tests: Sequence[str], project: Path) -> NoReturn:
    """Run the tests in this process, a child that has the large libraries and nothing of the
    project, and end it."""
    code = 3
    try:
        os.setsid()
        os.chdir(project)
        os.environ.update(environment(project))
        sys.path.insert(0, str(project))
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        options = ["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", f"--rootdir={project}"]
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(code)


def _exit_code(child: int) -> int | None:
    """None where its time was up: it is then ended with all that it began."""
    ends = time.monotonic() + LIMIT_S
    while time.monotonic() < ends:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def preload() -> None:
    """Import once, for all children, what takes seconds."""
    for name in ("hypothesis", "mlflow", "numpy", "pandas", "pyarrow.parquet", "pydantic", "yaml"):
        importlib.import_module(name)


def environment(project: Path) -> dict[str, str]:
    """Of the tests: the copy's modules come first, and few examples of what is drawn."""
    paths = os.pathsep.join([str(project), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "FARM_FUZZ": "25"}
    return {**os.environ, **own}


def sample(count: int, seed: int, only: str) -> list[Mutant]:
    """Each package has its part; the same arguments and code give the same mutants."""
    paths = [path for name in PACKAGES for path in sorted((ROOT / "farm" / name).rglob("*.py"))]
    found = [one for path in paths if only in str(path) for one in mutants(path)]
    return random.Random(seed).sample(found, min(count, len(found)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="modules whose path has this in it")
    parser.add_argument("--data", type=Path, default=ROOT / "build" / "coverage" / "data")
    options = parser.parse_args()
    if not options.data.exists():
        parser.error(f"{options.data} is not there: run `make coverage` before")
    chosen = sample(options.count, options.seed, options.only)
    reach = Reach(options.data)
    preload()
    with tempfile.TemporaryDirectory(prefix="farm-mutants-") as folder:
        project = Path(folder) / "farm"
        shutil.copytree(ROOT, project, ignore=_not_copied, symlinks=True)
        survivors = [one for one in chosen if _report(one, reach.tests(one), project)]
    print(f"{len(survivors)} of {len(chosen)} mutants survived (seed {options.seed}):")
    print("\n".join(f"  {one}" for one in survivors))
    return int(len(survivors) > MOST_SURVIVORS * len(chosen))


def _not_copied(folder: str, names: list[str]) -> list[str]:
    top = ("build", "results", "data") if Path(folder) == ROOT else ()
    return [name for name in names if name.startswith(".") or name in ("__pycache__", *top)]


def _report(mutant: Mutant, tests: Sequence[str], project: Path) -> bool:
    started = time.monotonic()
    alive = not tests or survives(mutant, tests, project)
    how = "SURVIVED" if alive else "noticed"
    seconds = time.monotonic() - started
    print(f"{how:<9}{seconds:5.0f} s {len(tests):3} tests  {mutant}", flush=True)
    return alive


if __name__ == "__main__":
    sys.exit(main())
