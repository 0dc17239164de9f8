"""Which of the steps that are ready goes first: the one with the longest way to the sweep's end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.engine.estimates import Estimates
    from farm.plan.steps import Step

_UNKNOWN_S = 1e9
"""What is added to the way of a step of which nothing is known: the sooner it is, the better are
the ways of all others."""


class Order:
    """The order of a plan's steps.

    The way of a step is its own expected duration and that of the longest chain of steps after it.
    """

    def __init__(self, steps: Mapping[str, Step], estimates: Estimates) -> None:
        self._steps, self._estimates = steps, estimates
        self._revision, self._ways = -1, dict[str, float]()
        self.renew()

    def way_s(self, step: Step) -> float:
        """Return the length of the step's way in seconds."""
        return self._ways[step.key]

    def renew(self) -> bool:
        """Compute the ways anew if other durations are expected now; return whether they are."""
        if self._revision == self._estimates.revision:
            return False
        self._revision = self._estimates.revision
        self._ways, longest = {}, dict[str, float]()
        for key in reversed([*self._steps]):
            step = self._steps[key]
            way = self._estimates.seconds(step) + longest.get(key, 0.0)
            self._ways[key] = way if self._estimates.knows(step) else way + _UNKNOWN_S
            for parent in step.parents:
                if longest.get(parent, 0.0) < way:
                    longest[parent] = way
        return True
