"""When a step goes: after its parents, the longest critical path first; how often it is tried."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from farm.engine.status import StepStatus
from farm.failures import FailureKind

if TYPE_CHECKING:
    from farm.engine.estimates import Estimates
    from farm.engine.status import Outcome
    from farm.plan.steps import Step


class Dependencies:
    """The children of each step, and how many parents each waits for.

    What is done for a step that ends does not depend on how many others there are.
    """

    def __init__(self, steps: Mapping[str, Step]) -> None:
        self._steps = steps
        self._waiting_for: dict[str, int] = {}
        self._children: dict[str, list[str]] = defaultdict(list)
        for key, step in steps.items():
            for parent in step.parents:
                self._children[parent].append(key)

    def children(self, key: str) -> Iterator[Step]:
        """Yield the steps that have this one among their parents."""
        return (self._steps[child] for child in self._children[key])

    def is_ready(self, step: Step, ended: Collection[str]) -> bool:
        """Count the parents of a step that have not ended; return whether there are none.

        Raises:
            RuntimeError: a parent is not in the plan.
        """
        if any(parent not in self._steps for parent in step.parents):
            raise RuntimeError(f"{step.stage} {step.label} waits for a step that is not planned")
        self._waiting_for[step.key] = sum(parent not in ended for parent in step.parents)
        return not self._waiting_for[step.key]

    def parent_ended(self, child: Step) -> bool:
        """Count one parent less; return whether the step is ready now."""
        self._waiting_for[child.key] -= 1
        return not self._waiting_for[child.key]

    def parent_runs_again(self, child: Step) -> bool:
        """Count one parent more; return whether the step was counted before."""
        if child.key not in self._waiting_for:
            return False
        self._waiting_for[child.key] += 1
        return True


_UNKNOWN_S = 1e9
"""What is added to the critical path of a step of which nothing is known: the sooner it is, the
better are those of all others."""


class Order:
    """The order of a plan's steps.

    The critical path of a step is its own expected duration and that of the longest chain of steps
    after it.
    """

    def __init__(self, steps: Mapping[str, Step], estimates: Estimates) -> None:
        self._steps, self._estimates = steps, estimates
        self._revision, self._paths = -1, dict[str, float]()

    def critical_path_s(self, step: Step) -> float:
        """Return the length of the step's critical path in seconds, as of the last `renew`."""
        return self._paths[step.key]

    def renew(self) -> bool:
        """Compute all anew if other durations are expected now; return whether they are."""
        if self._revision == self._estimates.revision:
            return False
        self._revision = self._estimates.revision
        self._paths, longest = {}, dict[str, float]()
        for key in reversed([*self._steps]):
            step = self._steps[key]
            path = self._estimates.seconds(step) + longest.get(key, 0.0)
            self._paths[key] = path if self._estimates.knows(step) else path + _UNKNOWN_S
            for parent in step.parents:
                if longest.get(parent, 0.0) < path:
                    longest[parent] = path
        return True


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
