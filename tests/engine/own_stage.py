"""A small real stage of the tests: it runs the code that its inputs hold, here or in a child.

Importing this module (as unpickling its inputs does, too) makes it the stage `own`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm.engine.interfaces import Executor
from farm.engine.status import Outcome
from farm.engine.workers.limits import Limit
from farm.engine.workers.supervise import shared_supervisor
from farm.plan import Step
from farm.plan.steps import Needs
from farm.specs import Ref, Target
from farm.stages import Context

sys.modules["farm.stages.own"] = sys.modules[__name__]


@dataclass(frozen=True)
class Inputs:
    """code: sees `context`; what it leaves in `figures` is recorded. reads: an artifact that is
    there when it runs."""

    code: str
    target: Target | None = None
    reads: Ref | None = None


def run(inputs: Inputs, context: Context) -> Mapping[str, Any]:
    names: dict[str, Any] = {"context": context, "figures": {}}
    exec(inputs.code, names)
    found: Mapping[str, Any] = names["figures"]
    return found


def step(
    code: str = "",
    needs: Needs | None = None,
    toolchain: tuple[tuple[str, str], ...] = (),
    target: Target | None = None,
) -> Step:
    key = hashlib.sha256(code.encode()).hexdigest()
    inputs: Any = Inputs(code, target)
    return Step("own", key, "mine", inputs, toolchain, (), needs or Needs(), "c0de")


def supervised(one: Step, root: Path | str, limit: Limit = Limit(60)) -> Outcome:  # noqa: B008
    """Run a step as every executor does."""
    return shared_supervisor().run(one, str(root), limit)


def waited(executor: Executor) -> Outcome:
    """Wait for the next outcome, as the scheduler does."""
    while (outcome := executor.wait()) is None:
        pass
    return outcome
