"""How often a step that fails for a temporary reason is tried again, and when."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from farm.engine.status import StepStatus
from farm.errors import FailureKind

if TYPE_CHECKING:
    from farm.engine.status import Outcome

TRIES = 3
"""How often a step is started at most that fails for a temporary reason."""

LOSSES = 5
"""How often a step is started at most whose workers or nodes are lost, which is not its fault."""

_PAUSE_S = 1.0
"""Before the next try of a step that was lost, in seconds: the first time; doubled each time."""

_KILLERS = (FailureKind.CRASH, FailureKind.OOM)
_MOST_KILLED = 2
"""How many workers a step may cost."""


class Tries:
    """The tries of all steps of a run."""

    def __init__(self) -> None:
        self._failed, self._killed, self._lost = Counter[str](), Counter[str](), Counter[str]()

    def allow_another(self, outcome: Outcome) -> bool:
        """Count a try, and return whether the step should be tried again."""
        key = outcome.key
        if outcome.lost:
            self._lost[key] += 1
        else:
            self._failed[key] += 1
            self._killed[key] += outcome.kind in _KILLERS
        return (
            outcome.status is StepStatus.TRANSIENT
            and self._failed[key] < TRIES
            and self._killed[key] < _MOST_KILLED
            and self._lost[key] < LOSSES
        )

    def pause_s(self, outcome: Outcome) -> float:
        """Return how many seconds the next try should wait: the cause of a loss may last."""
        return _PAUSE_S * 2 ** (self._lost[outcome.key] - 1) if outcome.lost else 0.0

    def __contains__(self, key: object) -> bool:
        """Whether the step was tried before."""
        return key in self._failed or key in self._lost
