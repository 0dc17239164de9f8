"""Run the tests of a mutant in a process that has imported nothing of the project.

That takes ten seconds to minutes, and tells of every mutant, also of what runs at import. See
`mutant_forks.py` for what is faster.

Libraries for this (mutmut, cosmic-ray) run one command for all mutants, or load the tests into one
process, which those that begin processes or Ray do not survive.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from mutations import Mutant, source

LIMIT_S = 120
"""For each test of a mutant: one that hangs is noticed as well."""

_PASSED, _NONE_CHOSEN = pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED
_LONG_AGO = 1_000_000_000


def survives(mutant: Mutant, tests: Sequence[str], slow: Sequence[str], project: Path) -> bool:
    """Whether all of the tests pass with the mutant in the copy of the project."""
    runs = (("not slow", tests), ("slow", slow))
    with written(mutant, project):
        return all(_passes(marked, files, project) for marked, files in runs if files)


@contextlib.contextmanager
def written(mutant: Mutant, project: Path) -> Iterator[None]:
    """The mutant's text in the copy, while it is tried; its time fits no bytecode that is there,
    nor what a program of the tests has left of another mutant."""
    path = project / mutant.path
    kept, times = path.read_bytes(), path.stat()
    path.write_text(source(mutant))
    os.utime(path, (time := _LONG_AGO + mutant.number, time))
    try:
        yield
    finally:
        path.write_bytes(kept)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _passes(marked: str, tests: Sequence[str], project: Path) -> bool:
    child = os.fork()
    if child == 0:
        _run(marked, tests, project)
    return ended(child) in (_PASSED, _NONE_CHOSEN)


def ended(child: int) -> int:
    """The exit code of a process that leads a group, once it and its group have ended."""
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):  # it has left no process
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


class TimeLimit:
    """A plugin of pytest: a test that takes longer than LIMIT_S ends the process."""

    def pytest_runtest_logstart(self) -> None:
        signal.alarm(LIMIT_S)


def _run(marked: str, tests: Sequence[str], project: Path) -> NoReturn:
    """Run the tests in this process, a child that has the large libraries and nothing of the
    project, and end it."""
    code = 3
    try:
        enter(project)
        sys.dont_write_bytecode = True  # of a mutant
        signal.alarm(LIMIT_S)  # to import the tests
        code = int(pytest.main([*options(marked, project), "-x", *tests], plugins=[TimeLimit()]))
        signal.alarm(0)
    finally:
        os._exit(code)


def enter(project: Path) -> None:
    """Make this process, which was forked, one that runs the tests of the project silently."""
    os.setsid()
    os.chdir(project)
    os.environ.update(environment(project))
    sys.path.insert(0, str(project))
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)


def options(marked: str, project: Path) -> list[str]:
    """Of pytest."""
    own = [f"--rootdir={project}", f"--basetemp={made(project)}"]
    return ["-q", "-m", marked, "-p", "no:cacheprovider", *own]


def made(project: Path) -> Path:
    """The folder of what tests write, beside the copy of the project."""
    return project.with_name("t")


def preload() -> None:
    """Import once, for all children, what takes seconds."""
    for name in ("hypothesis", "mlflow", "numpy", "pandas", "pyarrow.parquet", "pydantic", "yaml"):
        importlib.import_module(name)


def environment(project: Path) -> dict[str, str]:
    """Of the tests: the copy's modules come first, and few examples of what is drawn."""
    paths = os.pathsep.join([str(project), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", "FARM_FUZZ": "25"}
    return {**os.environ, **own}
