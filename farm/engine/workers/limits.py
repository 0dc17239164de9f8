"""The limits of a step: its time by stage, and its memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from farm.failures import FailureKind

if TYPE_CHECKING:
    from farm.config.schema import LimitsSpec
    from farm.store import Failure

MINUTE, HOUR = 60.0, 3600.0

DEFAULT_SECONDS: Mapping[str, float] = {
    "check": 5 * MINUTE,
    "prepare": HOUR,
    "reference": 2 * HOUR,
    "export": HOUR,
    "convert": 6 * HOUR,
    "build": 6 * HOUR,
    "verify": 2 * HOUR,
    "evaluate": 12 * HOUR,
    "measure": HOUR,
    "compare": 4 * HOUR,
    "table.config": 5 * MINUTE,
    "table.reference": HOUR,
    "table.trial": HOUR,
}
"""The time of a step, in seconds; of other packages' stages, that of `evaluate`."""

_SHARE = 0.9
"""How much of the machine's memory a step may use; beyond it the system would kill any process."""


@dataclass(frozen=True)
class Limit:
    """The limit of one step. seconds: how long it may run. memory_bytes: of its processes together;
    None for 90 % of the machine's. of_matrix: whether a matrix can set it. gpu_share: how much of a
    GPU it has, where it needs one."""

    seconds: float
    memory_bytes: int | None = None
    of_matrix: bool = True
    gpu_share: float = 1.0

    def allows_more_than(self, failure: Failure) -> bool:
        """Return whether a step failed by reaching a lower limit than this one."""
        reached = {FailureKind.TIMEOUT: self.seconds, FailureKind.OOM: float(self.most_bytes)}
        most = {kind.value: value for kind, value in reached.items()}.get(failure.kind, 0.0)
        return 0 < failure.limit < most

    @property
    def most_bytes(self) -> int:
        """The memory that the step may use on this machine."""
        return self.memory_bytes or int(_SHARE * machine_memory())


def limits_of(spec: LimitsSpec) -> Limits:
    """Return the limits that a matrix sets."""
    return Limits(spec.seconds, spec.memory)


@dataclass(frozen=True)
class Limits:
    """The limits of steps. seconds: by stage, where they are not the defaults. of_matrix: as of
    `Limit`; False for the commands that have none."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: int | None = None
    of_matrix: bool = True

    def of(self, stage: str) -> Limit:
        """Return the limit of a step of this stage."""
        default = DEFAULT_SECONDS.get(stage, DEFAULT_SECONDS["evaluate"])
        return Limit(self.seconds.get(stage, default), self.memory_bytes, self.of_matrix)


@cache
def machine_memory() -> int:
    """Return the bytes of memory that this machine has, or that its container may use."""
    import psutil  # a plan asks for limits of times alone

    total = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup v2 and v1
        try:
            return min(total, int(Path("/sys/fs/cgroup", name).read_text()))
        except (OSError, ValueError):
            continue
    return total


def used_memory(pids: list[int]) -> int:
    """Return the bytes of memory that these processes use together, without mapped files."""
    return sum(map(_anonymous, pids))


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    parts = (line.split() for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
    return sum(1024 * int(part[1]) for part in parts)
