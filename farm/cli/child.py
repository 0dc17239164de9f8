"""Run a command in a child process: whatever ends that, the command ends with a message.

The single-model tools run a model's own code, a data set's and runtimes beside their steps. A
crash of these ends the child; the process that the user has started says what has happened, ends
what is left running and removes the temporary files.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import math
import os
import select
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from farm.errors import FarmError
from farm.interrupts import Interrupted
from farm.run import guarded
from farm.units import format_bytes

if TYPE_CHECKING:
    from farm.run import Command

log = logging.getLogger(__name__)

_WATCH_S, _END_S = 0.25, 10.0
"""How often the memory of the child is looked at, and how long it may take to end, in seconds."""

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)

_TRACE = "trace.txt"
"""Where the child was when it crashed."""


def run(command: Command, options: argparse.Namespace) -> int:
    """Run a command as `farm.run.guarded` does, in a child process if `options.in_child`.

    Returns its exit code, in the child too, which goes on as the command; 1 if the child ends
    before the command does.
    """
    if not getattr(options, "in_child", False):
        return guarded(command, options)
    pipe: list[int] = []  # where the child, and it alone, writes its exit code
    code = guarded(lambda given: _forked(command, given, pipe), options)
    for descriptor in pipe:
        os.write(descriptor, str(code).encode())
    return code


def _forked(command: Command, options: argparse.Namespace, pipe: list[int]) -> int:
    from farm.engine.workers import processes
    from farm.engine.workers.temporary import TemporaryFolder

    signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)  # until each side is ready for them
    processes.adopt_orphans()
    folder, (ours, theirs) = TemporaryFolder(), os.pipe()
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent makes one SIGTERM of each
        processes.end_with_parent(parent, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
        os.close(ours)
        pipe.append(theirs)
        _use_folder(folder.path)
        return _flushed(command(options))
    try:
        os.close(theirs)
        return _watched(pid, ours, folder.path)
    finally:
        _ignore_interrupts()
        processes.end_children()
        folder.remove()


def _use_folder(folder: Path) -> None:
    """Make the folder that of temporary files, and of the trace of a crash."""
    (folder / "tmp").mkdir()
    os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
    faulthandler.enable((folder / _TRACE).open("w"))


def _flushed(code: int) -> int:
    """Write what is buffered: a library may crash when the interpreter ends."""
    print(end="", flush=True)
    return code


def _watched(pid: int, pipe: int, folder: Path) -> int:
    """Wait for the end of the child, and return the exit code that it has sent.

    Raises:
        FarmError: it has ended without, or was using too much memory.
        Interrupted: the user or the system ends the command, which does not end by itself.
    """
    for number in _INTERRUPTS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as SIGINT is of a shell's background job
            signal.signal(number, _interrupt_once)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
        _watch_memory(pid, pipe)
        code = os.read(pipe, 16).decode()
        end = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except Interrupted:
        return _interrupted(pid)
    if code:
        return int(code)
    if end >= 0:
        raise FarmError(f"the model's code ended the process with exit code {end}")
    trace = (folder / _TRACE).read_text(errors="replace").partition("\nExtension modules")[0]
    log.debug("where it was:\n%s", trace)
    name = signal.strsignal(-end) or "unknown"
    hint = "out of memory?" if -end == signal.SIGKILL else "-v shows where"
    raise FarmError(
        f"the model's code, or a library's, ended the process by signal {-end} ({name}); {hint}"
    )


def _watch_memory(pid: int, pipe: int) -> None:
    """Return when the child has sent its exit code, or has ended. Raises FarmError."""
    from farm.engine.workers.limits import Limit, used_memory

    most = Limit(math.inf).most_bytes
    while not select.select([pipe], [], [], _WATCH_S)[0]:
        if used_memory([pid]) > most:
            raise FarmError(f"it used more than {format_bytes(most)} of memory")


def _interrupted(pid: int) -> int:
    """Let the child end as an interrupted command does. Raises Interrupted if it does not."""
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + _END_S
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return 130
        time.sleep(0.02)
    raise Interrupted


def _interrupt_once(*_: object) -> None:
    _ignore_interrupts()
    raise Interrupted


def _ignore_interrupts() -> None:
    """Do nothing on further signals: the child is ending already, and what it leaves is removed.

    They are not set to be ignored: Python would report one that has come just before.
    """
    for number in _INTERRUPTS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
