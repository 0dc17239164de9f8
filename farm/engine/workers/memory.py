"""The memory of steps: the peak of one, and whether it ran out while one ran, which what killed its
process does not say."""

from __future__ import annotations

import re
import resource
from contextlib import suppress
from pathlib import Path

import psutil

_COUNTERS = ("/proc/vmstat", "/sys/fs/cgroup/memory.events")
"""Where the kernel counts what it has killed for memory: on the machine, and in a container."""

_PEAK = re.compile(rb"^VmHWM:\s*(\d+) kB", re.MULTILINE)

_LITTLE = 0.05
"""The share of the memory below which other programs kill processes, Ray among them."""


class MemoryWatch:
    """Watches the machine's memory from now on."""

    def __init__(self) -> None:
        self._killed, self._least = _killed(), 1.0

    def look(self) -> None:
        """Note how much memory is free."""
        memory = psutil.virtual_memory()
        self._least = min(self._least, memory.available / memory.total)

    @property
    def ran_out(self) -> bool:
        """Whether the kernel has killed a process for memory meanwhile, or little was free."""
        return self._least < _LITTLE or _killed() > self._killed


def _killed() -> int:
    count = 0
    for path in _COUNTERS:
        with suppress(OSError, ValueError):  # not Linux, or an old one
            lines = (line.split() for line in Path(path).read_text().splitlines())
            count += sum(int(line[1]) for line in lines if line[0] == "oom_kill")
    return count


def reset_peak() -> None:
    """Reset this process's peak (VmHWM), since workers perform many steps; see proc(5)."""
    # Not Linux, or not allowed: the peak is then that of all its steps.
    with suppress(OSError), open("/proc/self/clear_refs", "wb", buffering=0) as file:
        file.write(b"5")


def peak_bytes() -> int:
    """Return the peak of this process's resident memory since the last reset, in bytes."""
    with suppress(OSError):
        with open("/proc/self/status", "rb", buffering=0) as file:
            text = file.read(1 << 16)
        if found := _PEAK.search(text):
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
