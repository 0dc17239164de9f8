"""Perform a step in a process of its own, which its model's code may end, crash or hang."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from farm import environments
from farm.engine.perform import outcome_of, perform, record_failure
from farm.engine.status import Outcome, StepStatus
from farm.environments import EnvironmentFailed
from farm.store import Store
from farm.units import format_seconds

if TYPE_CHECKING:
    from farm.plan.steps import Step
    from farm.specs import Environment

CHECK_S = 300.0
"""How long a model's check may take, in seconds."""

# The child finds the modules of this process, and none in the current folder, which `-c` adds.
_START = (
    "import sys; sys.path[:] = {path!r}; from farm.engine.process import run_child; run_child()"
)

_START_IN_ENVIRONMENT = "from farm.engine.process import run_child; run_child()"

_MARK = "FARM_STEP_FOLDER"
"""In the environment of the child and of all processes that it starts."""

_PR_SET_PDEATHSIG = 1  # prctl(2)

# What kills a step from outside: too little memory, or a machine that shuts down.
_KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class ChildWork:
    """A step for a child process.

    place: the folder for its outcome and its temporary files. parent: the process id of its parent.
    deadline: when it will be killed, by `time.monotonic`; None for no limit.
    """

    step: Step
    root: str
    echo: bool
    place: str  # no path: each version of Python pickles paths by another module's name
    parent: int
    deadline: float | None

    @property
    def folder(self) -> Path:
        """The folder for its outcome and its temporary files."""
        return Path(self.place)

    @property
    def outcome_file(self) -> Path:
        """Where the child writes its outcome."""
        return self.folder / "outcome"


@dataclass(frozen=True)
class End:
    """How a child ended. code: its exit code, negative for a signal; None where it was killed at
    its time limit."""

    pid: int
    code: int | None


def perform_where_due(step: Step, root: str, check_s: float, echo: bool = False) -> Outcome:
    """Perform the step, in a process of its own if it needs one.

    check_s: the time limit of a check, in seconds; that of other stages is the executor's matter.
    """
    if step.needs.apart:
        return perform_apart(step, root, check_s if step.stage == "check" else None, echo)
    return perform(step, root, echo)


def perform_apart(
    step: Step, root: str, limit_s: float | None, echo: bool = False, late: str | None = None
) -> Outcome:
    """Perform the step in a child process, which is killed afterwards with all that it started.

    late: the reason of a step that reaches its limit, which the next run then tries again; None
    records such a step as failed.
    """
    store, started = Store(root), time.perf_counter()
    try:
        if store.record(step.ref):
            return Outcome(step.key, StepStatus.DONE)
        with _work_folder(store, step) as folder:
            deadline = None if limit_s is None else time.monotonic() + limit_s
            work = ChildWork(step, root, echo, str(folder), os.getpid(), deadline)
            outcome = _outcome(work, _run(work, limit_s), limit_s, store, late)
    except (OSError, EnvironmentFailed) as error:  # no room, no process, or no environment
        outcome = outcome_of(step, store, None, error, 0.0)
    return replace(outcome, seconds=time.perf_counter() - started)


@contextmanager
def _work_folder(store: Store, step: Step) -> Iterator[Path]:
    folder = store.work_folder(step.key)
    try:
        (folder / "tmp").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(work: ChildWork, limit_s: float | None) -> End:
    words, variables = _command(work.step.environment)
    with (work.folder / "child.log").open("wb") as log:
        output = None if work.echo else log
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**variables, "TMPDIR": str(work.folder / "tmp"), _MARK: str(work.folder)},
            start_new_session=True,  # Ctrl-C is this process's to handle
        )
        try:
            process.communicate(pickle.dumps(work), timeout=limit_s)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _kill_all(process, str(work.folder))
    return End(process.pid, code)


def _command(environment: Environment | None) -> tuple[list[str], dict[str, str]]:
    """Return the command that starts the child, and its variables.

    In a container Ray has started this process, too, so that the child needs nothing else.

    Raises:
        EnvironmentFailed: the environment cannot be made here.
    """
    if environment is None or environment.image:
        return [sys.executable, "-c", _START.format(path=sys.path)], dict(os.environ)
    words = environments.command(environment, _START_IN_ENVIRONMENT)
    return words, environments.variables(os.environ)


def _kill_all(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill the child and all processes that it started, also those in sessions of their own."""
    with suppress(OSError):  # the group is empty
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for other in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # it has ended, or is another user's
            if other.environ().get(_MARK) == mark:
                other.kill()


def _outcome(
    work: ChildWork, end: End, limit_s: float | None, store: Store, late: str | None
) -> Outcome:
    """The outcome that the child has written, else the one that its end means."""
    folders = list((store.root / "tmp").glob(f"{work.step.key}.*.{end.pid}.*"))
    try:
        if outcome := _written(work, store):
            return outcome
        if end.code is None and late is not None:
            return Outcome(work.step.key, StepStatus.TIMED_OUT, late)
        return _from_end(work, end, limit_s, store, folders)
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _written(work: ChildWork, store: Store) -> Outcome | None:
    try:
        outcome: Outcome = pickle.loads(work.outcome_file.read_bytes())
        return outcome
    except FileNotFoundError:
        published = store.record(work.step.ref)
        return Outcome(work.step.key, StepStatus.DONE) if published else None


def _from_end(
    work: ChildWork, end: End, limit_s: float | None, store: Store, folders: list[Path]
) -> Outcome:
    logs = [*(folder / "step.log" for folder in folders), work.folder / "child.log"]
    log = next((log for log in logs if log.exists()), None)
    if end.code is None:
        assert limit_s is not None
        more = "`farm run --retry-failed --check-minutes N` allows more time"
        reason = f"did not finish within {format_seconds(limit_s)}; {more}"
        return record_failure(work.step, store, log, reason, 0.0)
    if -end.code in _KILLED:
        store.keep_log(work.step.key, log)
        memory = ": out of memory?" if -end.code == signal.SIGKILL else ""
        reason = f"its process was killed by {_signal(-end.code)}{memory}"
        return Outcome(work.step.key, StepStatus.TRANSIENT, reason)
    if end.code < 0:
        return record_failure(work.step, store, log, f"its code ended by {_signal(-end.code)}", 0.0)
    reason = f"its code ended the process with exit code {end.code}{_last_line(log)}"
    return record_failure(work.step, store, log, reason, 0.0)


def clear_up(store: Store, key: str) -> None:
    """Keep the log of a step whose process has ended, and remove its working folders."""
    for folder in sorted((store.root / "tmp").glob(f"{key}.*")):
        with suppress(OSError):  # a full disk has no room for the log
            store.keep_log(key, folder / "step.log")
        shutil.rmtree(folder, ignore_errors=True)


def _signal(number: int) -> str:
    return f"signal {number} ({signal.strsignal(number) or 'unknown'})"


def _last_line(log: Path | None) -> str:
    text = log.read_text(errors="replace").strip() if log else ""
    return f"; its log ends with: {text.splitlines()[-1][:300]}" if text else ""


def run_child() -> None:
    """Perform the step that standard input has, write its outcome, and end this process."""
    work: ChildWork = pickle.load(sys.stdin.buffer)
    _end_with_parent(work.parent)
    _read_nothing()
    # Write a traceback into the log on a crash, and shortly before the step is killed.
    faulthandler.enable()
    if work.deadline is not None:
        remaining = work.deadline - time.monotonic()
        faulthandler.dump_traceback_later(max(remaining - 1, remaining * 0.9, 0.01))
    outcome = perform(work.step, work.root, work.echo)
    part = work.outcome_file.with_suffix(".part")
    part.write_bytes(pickle.dumps(outcome))
    part.replace(work.outcome_file)
    os._exit(0)  # without the threads and exit handlers of the model's code


def _end_with_parent(parent: int) -> None:
    """Let the kernel kill this process with its parent, which may be killed itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _read_nothing() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
