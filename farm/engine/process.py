"""A step in a process of its own: however its model's code ends it, that is the step's own end."""

from __future__ import annotations

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

import psutil

from farm.engine.perform import Outcome, ended, failed, perform
from farm.plan import Step
from farm.store import Store
from farm.units import format_seconds

CHECK_S = 300.0
"""How long a model's check may take, in seconds."""

# With the modules of this process, and none from the folder it is in (as `-c` alone would have).
_START = "import sys; sys.path[:] = {path!r}; from farm.engine.worker import main; main()"

_MARK = "FARM_STEP_FOLDER"
"""In the environment of the child and of all that it begins."""

# A step that is killed has not failed by itself: too little memory, or a machine that goes down.
_KILLED = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class ChildWork:
    """What a child is to do. deadline: of `time.monotonic`, if any. folder: for its answer and
    its temporary files."""

    step: Step
    root: str
    echo: bool
    folder: Path
    parent: int
    deadline: float | None

    @property
    def answer(self) -> Path:
        return self.folder / "outcome"


@dataclass(frozen=True)
class End:
    """How a child ended. code: negative for a signal; None where its time was up."""

    pid: int
    code: int | None


def perform_where_due(step: Step, root: str, check_s: float, echo: bool = False) -> Outcome:
    """Perform the step, in a process of its own if it needs one. check_s: a check's limit, in
    seconds; other stages have that of the executor."""
    if step.needs.apart:
        return perform_apart(step, root, check_s if step.stage == "check" else None, echo)
    return perform(step, root, echo)


def perform_apart(
    step: Step, root: str, limit_s: float | None, echo: bool = False, late: str | None = None
) -> Outcome:
    """As `perform`, in a child that is begun for this step and ended with all that it began.

    late: why a step that comes to its limit is given up until the next run; None records that as
    the step's failure.
    """
    store, started = Store(root), time.perf_counter()
    try:
        if store.record(step.ref):
            return Outcome(step.key, "done")
        with _work_folder(store, step) as folder:
            deadline = None if limit_s is None else time.monotonic() + limit_s
            work = ChildWork(step, root, echo, folder, os.getpid(), deadline)
            outcome = _outcome(work, _run(work, limit_s), limit_s, store, late)
    except OSError as error:  # no room for the folder, or no process to be had
        outcome = ended(step, store, None, error, 0.0)
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
    with (work.folder / "child.log").open("wb") as log:
        output = None if work.echo else log
        process = subprocess.Popen(
            [sys.executable, "-c", _START.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(work.folder / "tmp"), _MARK: str(work.folder)},
            start_new_session=True,  # Ctrl-C is this process's to handle
        )
        try:
            process.communicate(pickle.dumps(work), timeout=limit_s)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process, str(work.folder))
    return End(process.pid, code)


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """The child and all that it began, also in sessions of their own."""
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
    """What the child says, else what its end says of it."""
    folders = list((store.root / "tmp").glob(f"{work.step.key}.*.{end.pid}.*"))
    try:
        if said := _said(work, store):
            return said
        if end.code is None and late is not None:
            return Outcome(work.step.key, "late", late)
        return _unsaid(work, end, limit_s, store, folders)
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _said(work: ChildWork, store: Store) -> Outcome | None:
    try:
        outcome: Outcome = pickle.loads(work.answer.read_bytes())
        return outcome
    except FileNotFoundError:
        return Outcome(work.step.key, "done") if store.record(work.step.ref) else None


def _unsaid(
    work: ChildWork, end: End, limit_s: float | None, store: Store, folders: list[Path]
) -> Outcome:
    logs = [*(folder / "step.log" for folder in folders), work.folder / "child.log"]
    log = next((log for log in logs if log.exists()), None)
    if end.code is None:
        assert limit_s is not None
        more = "`farm run --retry-failed --check-minutes N` gives it more"
        reason = f"did not finish within {format_seconds(limit_s)}; {more}"
        return failed(work.step, store, log, reason, 0.0)
    if -end.code in _KILLED:
        store.keep_log(work.step.key, log)
        memory = ": out of memory?" if -end.code == signal.SIGKILL else ""
        reason = f"its process was killed by {_signal(-end.code)}{memory}"
        return Outcome(work.step.key, "transient", reason)
    if end.code < 0:
        return failed(work.step, store, log, f"its code ended by {_signal(-end.code)}", 0.0)
    reason = f"its code ended the process with exit code {end.code}{_last_line(log)}"
    return failed(work.step, store, log, reason, 0.0)


def clear_up(store: Store, key: str) -> None:
    """Keep the log of a step whose process is no more, and remove what it was working on."""
    for folder in sorted((store.root / "tmp").glob(f"{key}.*")):
        with suppress(OSError):  # a full disk has no room for the log
            store.keep_log(key, folder / "step.log")
        shutil.rmtree(folder, ignore_errors=True)


def _signal(number: int) -> str:
    return f"signal {number} ({signal.strsignal(number) or 'unknown'})"


def _last_line(log: Path | None) -> str:
    text = log.read_text(errors="replace").strip() if log else ""
    return f"; its log ends with: {text.splitlines()[-1][:300]}" if text else ""
