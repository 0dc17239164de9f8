"""Which of the steps that are ready goes first: the one with the longest critical path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.engine.estimates import Estimates
    from farm.plan.steps import Step

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
