"""Break the code on purpose, one place at a time, and see which breaks no test notices.

    python tools/mutants.py [--count 60] [--seed 1] [--only engine/scheduler]

Takes places by seed from the packages below: operators, comparisons, conditions, constants,
returned values. Each mutant is written into a copy of the project, where the tests without engines
that reach the line are run, as the data of `make coverage` says (of lines that run outside of
tests, at import say: the package's own tests and those that import the module). Slow tests in the
package's own folder are run where they import the module, and of lines that no other test reaches.
Prints the survivors; ends with 1 if they are more than 5 %.

What is broken, and what is left out, says `mutations.py`.

Libraries for this (mutmut, cosmic-ray) run one command for all mutants, or load the tests into one
process, which those that begin processes or Ray do not survive.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from mutations import ROOT, Mutant, mutants, source

PACKAGES = ("config", "engine", "plan", "results", "store")
MOST_SURVIVORS = 0.05
LIMIT_S = 120
"""For each test of a mutant: one that hangs is noticed as well."""


class Reach:
    """Which tests reach a line, as the last `make coverage` saw it."""

    def __init__(self, data: Path) -> None:
        from coverage import CoverageData

        self._data = CoverageData(str(data))
        self._data.read()
        self._files = {path.stem: path for path in sorted((ROOT / "tests").rglob("test_*.py"))}
        self._texts = {path: path.read_text() for path in self._files.values()}

    def tests(self, mutant: Mutant) -> list[str]:
        """For pytest: the test functions, and of lines that also run outside of them (at import, in
        fixtures, in processes of their own) the files of the package's own folder and those that
        import the module. The functions come first, and those of the own folder before others:
        they say soonest what is wrong."""
        lines = self._data.contexts_by_lineno(str(ROOT / mutant.path))
        contexts = lines.get(mutant.line, [""])
        found = {test for one in contexts if (test := self._test(one))}
        own = f"tests/{Path(mutant.path).parts[1]}/"
        if "" in contexts:
            found |= {*self._importing(mutant.path), own}
        return sorted(found, key=lambda one: ("::" not in one, own not in one, "fuzz" in one, one))

    def slow(self, mutant: Mutant) -> list[str]:
        """The files with slow tests in the package's own folder: those that import the module, and
        for a line that no other test function reaches, all."""
        own = ROOT / "tests" / Path(mutant.path).parts[1]
        found = [
            str(path.relative_to(ROOT))
            for path, text in self._texts.items()
            if path.parent == own and "mark.slow" in text
        ]
        contexts = self._data.contexts_by_lineno(str(ROOT / mutant.path)).get(mutant.line, ())
        reached, importing = any(map(self._test, contexts)), self._importing(mutant.path)
        return [path for path in found if path in importing or not reached]

    def _test(self, context: str) -> str | None:
        module, _, function = context.rpartition(".")
        path = self._files.get(module.rpartition(".")[2])
        # One that was renamed since would end pytest, which is no notice of a mutant.
        known = path and f"def {function}(" in self._texts[path]
        return f"{path.relative_to(ROOT)}::{function}" if path and known else None

    def _importing(self, path: str) -> list[str]:
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        package, _, name = module.rpartition(".")
        signs = (module, f"from {package} import", f"import {name}")
        return [
            str(test.relative_to(ROOT))
            for test, text in self._texts.items()
            if signs[0] in text or (signs[1] in text and name in text.split(signs[1])[1][:200])
        ]


def survives(mutant: Mutant, tests: Sequence[str], slow: Sequence[str], project: Path) -> bool:
    """Whether all of the tests pass with the mutant in the copy of the project."""
    path = project / mutant.path
    kept = path.read_text()
    path.write_text(source(mutant))
    runs = (("not slow", tests), ("slow", slow))
    try:
        return all(_passes(marked, files, project) for marked, files in runs if files)
    finally:
        path.write_text(kept)


def _passes(marked: str, tests: Sequence[str], project: Path) -> bool:
    child = os.fork()
    if child == 0:
        _run(marked, tests, project)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):  # it has left no process
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) in (_PASSED, _NONE_CHOSEN)


_PASSED, _NONE_CHOSEN = pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED


class TimeLimit:
    """A plugin of pytest: a test that takes longer than LIMIT_S ends the process."""

    def pytest_runtest_logstart(self) -> None:
        signal.alarm(LIMIT_S)


def _run(marked: str, tests: Sequence[str], project: Path) -> NoReturn:
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
        options = ["-q", "-x", "-m", marked, "-p", "no:cacheprovider", f"--rootdir={project}"]
        signal.alarm(LIMIT_S)  # to import the tests
        code = int(pytest.main([*options, *tests], plugins=[TimeLimit()]))
        signal.alarm(0)
    finally:
        os._exit(code)


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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
        survivors = [one for one in chosen if _report(one, reach, project)]
    print(f"{len(survivors)} of {len(chosen)} mutants survived (seed {options.seed}):")
    print("\n".join(f"  {one}" for one in survivors))
    return int(len(survivors) > MOST_SURVIVORS * len(chosen))


def _not_copied(folder: str, names: list[str]) -> list[str]:
    """Of a folder's names those that tests do not need: caches and what was made here."""
    made = {ROOT: ("build", "data"), ROOT / "results": sorted({*names} - {"records"})}
    left_out = ("__pycache__", *made.get(Path(folder), ()))
    return [name for name in names if name.startswith(".") or name in left_out]


def _report(mutant: Mutant, reach: Reach, project: Path) -> bool:
    started, tests = time.monotonic(), reach.tests(mutant)
    alive = survives(mutant, tests, reach.slow(mutant), project)
    how = "SURVIVED" if alive else "noticed"
    seconds = time.monotonic() - started
    print(f"{how:<9}{seconds:5.0f} s {len(tests):3} tests  {mutant}", flush=True)
    return alive


if __name__ == "__main__":
    sys.exit(main())
