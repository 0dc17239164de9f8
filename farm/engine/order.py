"""Which of the steps that are ready goes first: the one with the longest way to the sweep's end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.engine.estimates import Estimates
    from farm.plan.steps import Step


class Order:
    """The order of a plan's steps.

    The way of a step is its own expected duration and that of the longest chain of steps after it.
    Ways are computed anew when twice as many durations are known as at the last time, so that what
    they cost a step does not grow with the number of steps.
    """

    def __init__(self, steps: Mapping[str, Step], estimates: Estimates) -> None:
        self._steps, self._estimates = steps, estimates
        self._noted, self._due = 0, 1
        self._ways = self._computed()

    def way_s(self, step: Step) -> float:
        """Return the length of the step's way in seconds."""
        return self._ways[step.key]

    def has_changed(self) -> bool:
        """Count a duration that has become known; return whether the ways are others now."""
        self._noted += 1
        if self._noted < self._due:
            return False
        self._due *= 2
        self._ways = self._computed()
        return True

    def _computed(self) -> dict[str, float]:
        ways, longest = dict[str, float](), dict[str, float]()
        for key in reversed([*self._steps]):
            step = self._steps[key]
            ways[key] = way = self._estimates.seconds(step) + longest.get(key, 0.0)
            for parent in step.parents:
                if longest.get(parent, 0.0) < way:
                    longest[parent] = way
        return ways
