"""Run the tests of a mutant in a fork of a process that has imported all fast tests already.

That takes tenths of a second: those that are likely to notice come first. Only a failure is proof,
and only of a test that passes in a fork without the mutant. Without one the answer is `UNNOTICED`
where all tests were run and the mutant was wholly in place, and else `UNKNOWN`.
"""

from __future__ import annotations

import contextlib
import enum
import gc
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import mutant_runs
import pytest
from mutant_swaps import Calls, Functions, Swap
from mutations import Mutant

HANGS_S = 30.0
"""A test that has passed before hangs after so long, and ten times as long as it took."""


class Verdict(enum.Enum):
    """What the tests in a fork say of a mutant; UNKNOWN: they must be run in a process anew."""

    NOTICED = "noticed"
    UNNOTICED = "unnoticed"
    UNKNOWN = "unknown"


class Collected:
    """A process with all fast tests of a copy of the project, which forks for each mutant."""

    def __init__(self, project: Path) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = os.fork()
        if self._process == 0:
            self._pipe.close()
            _serve(theirs, project)
        theirs.close()

    def verdict(self, mutant: Mutant, tests: Sequence[str]) -> Verdict:
        """Of functions, files and folders of tests. Ends the program where they do not import."""
        try:
            self._pipe.send((mutant, tests))
            answer = self._pipe.recv()
        except (EOFError, OSError):
            sys.exit("The process with the tests has ended: does `make test-fast` import them?")
        assert isinstance(answer, Verdict)
        return answer

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        self._pipe.close()


def _serve(pipe: Connection, project: Path) -> NoReturn:
    try:
        mutant_runs.enter(project)
        options = [*mutant_runs.options("not slow", project), "--capture=no"]
        pytest.main(options, plugins=[_Forks(pipe, project)])
    finally:
        os._exit(0)


class _Forks:
    """A plugin of pytest: in place of running all tests, it answers for one mutant after another.

    What it learns makes the next ones faster: how long tests take, and which notice the mutants of
    a module.
    """

    def __init__(self, pipe: Connection, project: Path) -> None:
        self._pipe, self._project = pipe, project
        self._log = project.with_name("log")
        self._seconds: dict[str, float] = {}
        self._noticed: Counter[tuple[str, str]] = Counter()
        self._sound: dict[str, bool] = {}
        self._failed = False
        self._calls = Calls(project)
        self._calls.start()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._functions = Functions(self._project, self._calls.stop())
        self._items = {one.nodeid: (one, _names(one)) for one in session.items}
        sys.dont_write_bytecode = True  # of a mutant
        gc.collect()
        gc.freeze()
        while not session.testsfailed:
            self._pipe.send(self._verdict(*self._pipe.recv()))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed

    def _verdict(self, mutant: Mutant, tests: Sequence[str]) -> Verdict:
        swaps = self._functions.swaps(mutant)
        if swaps is None:
            return Verdict.UNKNOWN
        found = [one for one, names in self._items.values() if not names.isdisjoint(tests)]
        chosen = [one for one in found if self._sound.get(one.nodeid, True)]
        chosen.sort(key=lambda one: self._rank(one, mutant))
        while culprit := self._first_failed(chosen, swaps, mutant):
            if self._is_sound(culprit):
                self._noticed[mutant.path, _function(culprit)] += 1
                return Verdict.NOTICED
            chosen.remove(culprit)
        whole = len(chosen) == len(found) and not self._functions.ran_at_import(mutant)
        return Verdict.UNNOTICED if whole else Verdict.UNKNOWN

    def _rank(self, item: pytest.Item, mutant: Mutant) -> tuple[float, ...]:
        """First those that have noticed others, then those of the package, the short ones first."""
        path = Path(mutant.path)
        own = item.nodeid.split("/")[1:2] == [*path.parts[1:2]]
        seconds = self._seconds.get(item.nodeid, 0.3)
        seen = self._noticed[mutant.path, _function(item)]
        return -seen, seconds > 2, not own, path.stem not in item.nodeid, seconds

    def _is_sound(self, item: pytest.Item) -> bool:
        """Whether a test passes here without a mutant."""
        if item.nodeid not in self._sound:
            self._sound[item.nodeid] = self._first_failed([item], [], None) is None
        return self._sound[item.nodeid]

    def _first_failed(
        self, items: Sequence[pytest.Item], swaps: Sequence[Swap], mutant: Mutant | None
    ) -> pytest.Item | None:
        """The first test that fails, hangs or ends its process; None where all pass."""
        self._log.write_text("")
        text = mutant_runs.written(mutant, self._project) if mutant else contextlib.nullcontext()
        with text:
            child = os.fork()
            if child == 0:
                self._run(items, swaps)
            code = mutant_runs.ended(child)
        lines = self._log.read_text().splitlines()
        self._seconds.update(zip(lines[::2], map(float, lines[1::2]), strict=False))
        shutil.rmtree(mutant_runs.made(self._project), ignore_errors=True)
        passed = code == 0 and len(lines) == 2 * len(items)
        return None if passed else self._items[lines[::2][-1]][0]

    def _run(self, items: Sequence[pytest.Item], swaps: Sequence[Swap]) -> NoReturn:
        """Run the tests in this process, a fork, up to the first that fails, and end it. The log
        has the name of each when it begins, and its seconds when it has passed."""
        code = 3
        try:
            os.setsid()
            self._pipe.close()
            for function, other in swaps:
                function.__code__ = other
            self._functions.forget()
            with self._log.open("w", buffering=1) as log:
                for item, following in zip(items, [*items, None][1:], strict=True):
                    print(item.nodeid, file=log)
                    print(self._seconds_to_pass(item, following), file=log)
            code = 0
        finally:
            os._exit(code)

    def _seconds_to_pass(self, item: pytest.Item, following: pytest.Item | None) -> float:
        """Run a test; end the process where it fails, or hangs."""
        known = self._seconds.get(item.nodeid)
        limit = mutant_runs.LIMIT_S if known is None else max(HANGS_S, 10 * known)
        signal.setitimer(signal.ITIMER_REAL, limit)
        started = time.monotonic()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if self._failed:
            os._exit(1)
        return time.monotonic() - started


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _names(item: pytest.Item) -> set[str]:
    """By which a test is chosen: its function, its file, and its folder of `tests/`."""
    file = item.nodeid.partition("::")[0]
    return {_function(item), file, "/".join(file.split("/")[:2]) + "/"}
