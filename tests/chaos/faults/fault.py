"""What is said of a fault: how it is done, and what it explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chaos.scene import Scene


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    act: does it, and returns what was done, in words; raises NoTarget. Without any of the next
    three, the sweep itself must come to its end, with the right rows.
    ends: the exit codes with which the driver may end.
    undone: steps may be left undone, or recorded as failed, for the next run.
    alters: steps whose artifacts are gone or changed are run again, with those that read them.
    repeats: how often one step may be begun again because of it. lasts: until the run has ended.
    between: it may also come while no driver runs. small_disk, tracker, service: what it needs.
    """

    name: str
    kind: str
    act: Callable[[Scene], str]
    ends: frozenset[int] = frozenset()
    undone: bool = False
    alters: bool = False
    repeats: int = 1
    lasts: bool = False
    between: bool = False
    small_disk: bool = False
    tracker: bool = False
    service: bool = False
