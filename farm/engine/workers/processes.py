"""Processes by their ids: what each has started, how to end it, and how it ends with another."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)


def descendants(pid: int) -> list[int]:
    """Return the processes that this one has started, and theirs; parents come first."""
    found = children_of(pid)
    for child in found:
        found += children_of(child)
    return found


def children_of(pid: int, thread: int | None = None) -> list[int]:
    """Return the processes that this one, or one thread of it, has started; and those that have
    become its own."""
    found, threads = list[int](), f"/proc/{pid}/task"
    with suppress(OSError):
        for one in [str(thread)] if thread else os.listdir(threads):  # each has its own
            with suppress(OSError), open(f"{threads}/{one}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def with_variable(name: str, value: str) -> list[int]:
    """Return the processes that were started with this environment variable."""
    found, wanted = list[int](), os.fsencode(f"{name}={value}")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:  # another user's
            if wanted in file.read().split(b"\0"):
                found.append(int(pid))
    return found


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Kill processes, which may have ended already, or send them another signal."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def kill_trees(pids: Iterable[int]) -> set[int]:
    """Kill processes with all that they have started, and return all of them.

    They are stopped first, so that nothing escapes that is started meanwhile.
    """
    roots, stopped = list(pids), set[int]()
    while new := {pid for root in roots for pid in (root, *descendants(root))} - stopped:
        kill(new, signal.SIGSTOP)
        stopped |= new
    kill(stopped)
    return stopped


def end_children() -> None:
    """End all children and what they have started; with `adopt_orphans` also what that has left."""
    while found := descendants(os.getpid()):
        kill(found)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.001)  # what they have started meanwhile is found in the next round


def adopt_orphans() -> None:
    """Become the parent of what children of this process leave running; see prctl(2)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(parent: int, number: int) -> None:
    """Let the kernel send this process the signal when its parent ends, which may be killed."""
    if sys.platform == "linux":  # commands that run no steps work elsewhere, too
        _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value)
