"""The status of a step and of a cell, and the changes of a step's status that are allowed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.failures import FailureKind
    from farm.specs import Ref
    from farm.store import Record


class StepStatus(str, Enum):
    """The status of a step in one run of a plan. TRANSITIONS says which may follow which."""

    WAITING = "waiting"
    """It has not started: its parents are not done, or no node is free."""

    RUNNING = "running"
    """An executor has taken it."""

    DONE = "done"
    """Its artifact is in the store."""

    FAILED = "failed"
    """It failed for a reason that the same inputs will always give; the store records it."""

    INVALID_INPUT = "input"
    """The user's files are wrong. Not recorded, since the user will correct them."""

    TRANSIENT = "transient"
    """It failed for a temporary reason (a lost node, no memory); worth another try."""

    BLOCKED = "blocked"
    """One of its parents did not end well."""

    SKIPPED = "skipped"
    """It is optional and no node here can run it, or the time of the run was over before."""

    __str__ = str.__str__  # the value; Python 3.12 would otherwise format the member's name

    @property
    def is_failure(self) -> bool:
        """Whether the step itself ended badly, so that its cells have failed."""
        return CELL_STATUSES[self] is CellStatus.FAILED


class CellStatus(str, Enum):
    """The status of a cell, as its row of the leaderboard has it.

    It is computed anew from the statuses of the cell's steps (CELL_STATUSES) and from the verdict,
    whenever the rows are made; so any status may follow any other.
    """

    OK = "ok"
    """All steps are done, and the engine is the same detector as PyTorch's."""

    FAILED = "failed"
    """A step failed, or the engine differs by more than the tolerances."""

    PENDING = "pending"
    """A step has not run yet, and none has failed."""

    SKIPPED = "skipped"
    """It cannot be run, as was known before any work: what its axes ask for does not go together,
    such as int8 and an opset below 13. Nothing went wrong."""

    __str__ = str.__str__


_ENDS = frozenset(StepStatus) - {StepStatus.WAITING, StepStatus.RUNNING}

TRANSITIONS: Mapping[StepStatus, frozenset[StepStatus]] = {
    # In the store already (DONE, FAILED); without a node that can run it (SKIPPED); after a parent
    # that did not end well (BLOCKED).
    StepStatus.WAITING: frozenset(
        {
            StepStatus.RUNNING,
            StepStatus.DONE,
            StepStatus.FAILED,
            StepStatus.SKIPPED,
            StepStatus.BLOCKED,
        }
    ),
    # Whatever an executor may report. It starts no step whose parents are not done, and may give
    # back one that it has not started yet (WAITING).
    StepStatus.RUNNING: _ENDS - {StepStatus.BLOCKED} | {StepStatus.WAITING},
    # Another try, while there are tries left.
    StepStatus.TRANSIENT: frozenset({StepStatus.WAITING}),
    # A step after it has found that its artifact was altered.
    StepStatus.DONE: frozenset({StepStatus.WAITING}),
    # Every other status is final.
    **dict.fromkeys(_ENDS - {StepStatus.TRANSIENT, StepStatus.DONE}, frozenset()),
}
"""The statuses that may follow each status; the scheduler allows no other change."""

CELL_STATUSES: Mapping[StepStatus, CellStatus] = {
    StepStatus.DONE: CellStatus.OK,
    **dict.fromkeys(
        (
            StepStatus.FAILED,
            StepStatus.INVALID_INPUT,
            StepStatus.TRANSIENT,
        ),
        CellStatus.FAILED,
    ),
    **dict.fromkeys(
        (
            StepStatus.WAITING,
            StepStatus.RUNNING,
            StepStatus.BLOCKED,
            StepStatus.SKIPPED,
        ),
        CellStatus.PENDING,
    ),
}
"""What the status of a step makes of its cells. A blocked step says nothing by itself: the step
that blocks it decides."""


def is_well(statuses: Iterable[str]) -> bool:
    """Return whether all cells that can be run are OK, and there is one: the exit code is then 0.
    Where every cell was skipped, the matrix asks for nothing that can be run."""
    found = set(statuses)
    return found <= {CellStatus.OK, CellStatus.SKIPPED} and found != {CellStatus.SKIPPED}


def counted(statuses: Iterable[str]) -> str:
    """Return how many cells there are, how many failed, and how many have no result:
    `28 cells, 1 failed, 2 skipped`."""
    found = Counter(statuses)
    texts = [f"{sum(found.values())} cells", f"{found[CellStatus.FAILED]} failed"]
    others = (CellStatus.SKIPPED, CellStatus.PENDING)
    return ", ".join([*texts, *(f"{found[one]} {one}" for one in others if found[one])])


class InvalidTransition(RuntimeError):
    """A step's status was to change in a way that TRANSITIONS does not allow: a fault of the farm
    or of an executor."""


@dataclass(frozen=True)
class Outcome:
    """How a step ended. reason, kind: why it did not end well, and the class of that. seconds: how
    long it ran. altered: a parent whose artifact is not what was published. lost: the worker or the
    node that it ran on was lost, which is no fault of the step. memory_bytes:
    its peak of host memory; 0 where it is not known. gpu_bytes: of GPU memory, likewise.
    record: what the step has put into an object store, without its inputs."""

    key: str
    status: StepStatus
    reason: str = ""
    seconds: float = 0.0
    kind: FailureKind | None = None
    altered: Ref | None = None
    lost: bool = False
    memory_bytes: int = 0
    gpu_bytes: int = 0
    record: Record | None = None


class StepStatuses:
    """The status of every step of one run, by key; each begins as WAITING."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._statuses = dict.fromkeys(keys, StepStatus.WAITING)

    def __getitem__(self, key: str) -> StepStatus:
        return self._statuses[key]

    def change(self, key: str, new: StepStatus) -> None:
        """Give a step its next status.

        Raises:
            InvalidTransition: TRANSITIONS does not allow the change.
        """
        old = self._statuses[key]
        if new not in TRANSITIONS[old]:
            allowed = ", ".join(sorted(TRANSITIONS[old])) or "nothing"
            raise InvalidTransition(
                f"step {key} is {old} and cannot become {new}; expected: {allowed}"
            )
        self._statuses[key] = new


def failure_reasons(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Return why steps failed, by key: those whose cells have failed, too."""
    return {one.key: one.reason for one in outcomes if one.status.is_failure}


def failure_classes(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Return the classes of the failures of steps, by key, as far as they are known."""
    return {one.key: one.kind.value for one in outcomes if one.status.is_failure and one.kind}


def skip_reasons(outcomes: Iterable[Outcome]) -> dict[str, str]:
    """Return why steps were skipped, by key."""
    return {one.key: one.reason for one in outcomes if one.status is StepStatus.SKIPPED}
