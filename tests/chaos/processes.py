"""The processes of one harness, found by a mark in their environment, and nobody else's."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_COPIES = 16
"""Of the mark: Ray gives its children their variables in any order, and a process that changes its
title (`ray::IDLE`) writes over the first of them."""

_VARIABLE = "CHAOS_MARK_"
_FORK_SERVER = "forkserver import serve"
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


class Kind(Enum):
    """What a process is for."""

    GCS = "gcs_server"
    RAYLET = "raylet"
    DAEMON = "daemon"
    """Another process that Ray keeps on a node."""

    IDLE = "idle Ray worker"
    WORKER = "Ray worker"
    FORK_SERVER = "fork server"
    STEP = "step's process"
    OTHER = "process"
    """A driver, or what one has started."""


RAYS = frozenset({Kind.GCS, Kind.RAYLET, Kind.DAEMON, Kind.IDLE})
"""What Ray itself keeps running on its nodes between two drivers."""


@dataclass(frozen=True)
class Process:
    """A living process. node: the number of the node that it belongs to; None for a driver's."""

    pid: int
    parent: int
    node: int | None
    kind: Kind
    title: str

    def __str__(self) -> str:
        where = "" if self.node is None else f" of node {self.node}"
        return f"{self.kind.value} {self.pid}{where}"


@dataclass(frozen=True)
class Processes:
    """The processes whose environment has this value of the mark."""

    mark: str

    def variables(self, node: int | None = None) -> dict[str, str]:
        """Return the variables that mark a process, of a node or (None) of none."""
        value = f"{self.mark}:{'' if node is None else node}"
        return {f"{_VARIABLE}{i}": value for i in range(_COPIES)}

    def find(self, node: int | None = None, *kinds: Kind) -> list[Process]:
        """Return those of a node (None: of all), of these kinds (none: of all)."""
        found = self._read()
        return [
            one
            for one in found.values()
            if node in (None, one.node) and (not kinds or one.kind in kinds)
        ]

    def send(self, process: Process, number: signal.Signals) -> bool:
        """Send a signal, and return whether the process was still there and of this harness."""
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return False
        try:
            # Its number may be another's by now; from here on the descriptor is of one process.
            if self._value(process.pid) is None:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def kill_all(self, node: int | None = None) -> int:
        """Kill those of a node (None: of all, but for this process), until none is left."""
        count, until = 0, time.monotonic() + 30
        while found := [one for one in self.find(node) if one.pid != os.getpid()]:
            count += sum(self.send(one, signal.SIGKILL) for one in found)
            if time.monotonic() > until:
                raise TimeoutError(f"cannot be killed: {', '.join(map(str, found))}")
            time.sleep(0.02)
        return count

    def _read(self) -> dict[int, Process]:
        seen: dict[int, tuple[int, str, str]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            pid = int(folder.name)
            if (node := self._value(pid)) is not None:
                with contextlib.suppress(OSError, IndexError):
                    title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                    seen[pid] = parent, node, title.strip()
        found = {}
        for pid, (parent, node, title) in seen.items():
            kind = _kind(title, seen[parent][2] if parent in seen else "")
            found[pid] = Process(pid, parent, int(node) if node else None, kind, title)
        return found

    def _value(self, pid: int) -> str | None:
        """The number of its node as text, or an empty one; None for a process without the mark."""
        try:
            data = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # it has ended, or is another user's
            return None
        for line in data.split(b"\0"):
            name, _, value = line.decode("latin-1").partition("=")
            if name.startswith(_VARIABLE) and value.startswith(f"{self.mark}:"):
                return value.partition(":")[2]
        return None


def wait_until(holds: Callable[[], object], seconds: float) -> bool:
    """Wait until something holds; return whether it does within that time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _kind(title: str, parent: str) -> Kind:
    program = title.partition(" ")[0].rpartition("/")[2]
    if program in ("gcs_server", "raylet"):
        return Kind(program)
    if title.startswith("ray::") and not title.startswith(_AGENTS):
        return Kind.IDLE if title.startswith("ray::IDLE") else Kind.WORKER
    if _FORK_SERVER in title:
        return Kind.STEP if _FORK_SERVER in parent else Kind.FORK_SERVER
    if "/ray/" in title or "ray.util" in title or title.startswith(_AGENTS):
        return Kind.DAEMON
    return Kind.OTHER
