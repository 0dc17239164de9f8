"""Run the steps of the table of models: in worker processes, in a store that is then removed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Outcome, Unwatched, run_steps
from farm.engine.workers.temporary import TemporaryFolder
from farm.store import Store

if TYPE_CHECKING:
    from farm.engine.workers.limits import Limits
    from farm.plan import Step

log = logging.getLogger(__name__)


@contextmanager
def temporary_store() -> Iterator[Store]:
    """Make a store for the length of a block; one of a command that is killed is removed by the
    next command."""
    folder = TemporaryFolder()
    try:
        yield Store(folder.path / "store")
    finally:
        folder.remove()


def run(steps: Iterable[Step], store: Store, limits: Limits | None = None) -> dict[str, Outcome]:
    """Run the steps, parents first, and return the outcome of each by its key. With `-v` their logs
    are shown, which go with the store.

    Raises:
        Interrupted: the user or the system ends the command.
    """
    planned = {step.key: step for step in steps}
    executor = LocalExecutor(store, limits, echo=log.isEnabledFor(logging.DEBUG))
    return run_steps(planned, store, lambda: executor, Unwatched())
