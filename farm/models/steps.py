"""Run the steps of the table of models: in worker processes, in a store that is then removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from farm.engine.local import LocalExecutor
from farm.engine.scheduler import Outcome, Unwatched, run_steps
from farm.engine.temporary import TemporaryFolder
from farm.store import Store

if TYPE_CHECKING:
    from farm.engine.limits import Limits
    from farm.plan import Step


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
    """Run the steps, parents first, and return the outcome of each by its key.

    Raises:
        Interrupted: the user or the system ends the command.
    """
    planned = {step.key: step for step in steps}
    return run_steps(planned, store, lambda: LocalExecutor(store, limits), Unwatched())
