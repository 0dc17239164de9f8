"""Plan: cells become steps, shared steps appear once. Pure: no torch, no Ray, no GPU."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from farm.called import callable_as_function
from farm.plan.steps import STAGES, Needs, Plan, PlannedCell, Step

if TYPE_CHECKING:
    from farm.config.loader import Matrix
    from farm.specs import ModelFacts

__all__ = ["STAGES", "Needs", "Plan", "PlannedCell", "Step", "make_plan"]


callable_as_function(__name__)  # `farm.plan(...)` is `farm.api.plan(...)`


def make_plan(
    matrix: Matrix,
    facts: Callable[[str], ModelFacts | None] = lambda key: None,
    just_checked: Mapping[str, Step] = MappingProxyType({}),
) -> Plan:
    """Make the plan of a matrix. Pure but for reading digests of the user's files.

    The planner is imported when it is called: whoever runs steps needs their types alone.

    facts: what the store knows of a model, by the key of its `check`; None before that has run.
    just_checked: by model, checks that have run for this very plan: what they found is taken as it
    is, also where the model's own code changes a file that it reads.

    Raises:
        InputError: a target cannot be resolved. Files that are not there are in `Plan.missing`.
    """
    from farm.plan.planner import Planner

    with _uncollected():
        return Planner(matrix, facts, just_checked).plan()


@contextmanager
def _uncollected() -> Iterator[None]:
    """Switch the cyclic garbage collector off: it would look at all steps again and again, as they
    become more, and a plan has no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
