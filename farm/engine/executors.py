"""Which executor runs a plan, and when it starts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.engine.scheduler import Executor
    from farm.engine.workers.limits import Limits
    from farm.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """How a sweep runs; none of it changes what a step produces.

    wait_for_nodes_s: how long a node is waited for that a cluster's autoscaler starts, in seconds.
    """

    executor: str = "ray"
    address: str | None = None
    retry_failed: bool = False
    mlflow: bool = True
    wait_for_nodes_s: float = 0.0


def starter(
    store: Store,
    choices: Choices,
    limits: Limits,
    stack: ExitStack,
) -> Callable[[], Executor]:
    """Return a function that starts the executor at its first call and returns it.

    A sweep with nothing to do so needs none. The end of `stack` stops the executor.
    """
    started: list[Executor] = []

    def start() -> Executor:
        if not started:
            started.append(_make_executor(store, choices, limits))
            stack.callback(started[0].stop)
        return started[0]

    return start


def _make_executor(store: Store, choices: Choices, limits: Limits) -> Executor:
    log.debug("starting the executor %s", choices.executor)
    if choices.executor == "inline":
        from farm.engine.local import LocalExecutor

        return LocalExecutor(store, limits)
    from farm.engine.cluster.executor import RayExecutor

    return RayExecutor(store, choices.address, limits, choices.wait_for_nodes_s)
