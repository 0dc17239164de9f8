"""Whether memory ran out while a step ran: what killed its process does not say so."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

_COUNTERS = ("/proc/vmstat", "/sys/fs/cgroup/memory.events")
"""Where the kernel counts what it has killed for memory: on the machine, and in a container."""

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
