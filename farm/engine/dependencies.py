"""Which steps of a plan wait for which of their parents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
