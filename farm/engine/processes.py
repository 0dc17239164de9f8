"""Processes by their ids: what each has started, and how to end it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress


def descendants(pid: int) -> list[int]:
    """Return the processes that this one has started, and theirs; parents come first."""
    found = children_of(pid)
    for child in found:
        found += children_of(child)
    return found


def children_of(pid: int) -> list[int]:
    """Return the processes that this one has started, or that have become its own."""
    found, threads = list[int](), f"/proc/{pid}/task"
    with suppress(OSError):
        for thread in os.listdir(threads):  # each has its own
            with suppress(OSError), open(f"{threads}/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def kill(pids: list[int]) -> None:
    """Kill processes, which may have ended already."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
