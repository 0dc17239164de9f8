"""What the scheduler works with: executors, which run steps, and watchers, which see them run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from farm.engine.estimates import Estimates
    from farm.engine.status import Outcome
    from farm.plan.steps import Step


class Executor(Protocol):
    """Runs steps: on the nodes of a cluster, or on this machine."""

    def admit(self, steps: Iterable[Step], estimates: Estimates) -> Mapping[str, str]:
        """Return why no node can run them, by key, of the optional steps of which that is so.

        estimates: of what they take, which become better while the steps run.

        Raises:
            InputError: no node can run a step that is not optional. This is before any work.
        """
        ...

    def forget(self, step: Step) -> None:
        """Take notice that a step was ended without the executor, or by it for good."""
        ...

    def take(self, step: Step) -> bool:
        """Start the step if there is room for it now; return whether there is."""
        ...

    def wait(self) -> Outcome | None:
        """Wait until one of the steps that were taken has ended, and return how.

        One that the executor has not started after all, and that should be offered again, is
        WAITING. None: none has ended, but others may be offered.
        """
        ...

    def stop(self) -> None:
        """End the steps that are running; do nothing if it was stopped before."""
        ...


class Watcher(Protocol):
    """Is called for each step that starts or ends; a progress display, for instance."""

    def started(self, step: Step) -> None:
        """Note that an executor has taken the step."""
        ...

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Note how the step ended; once a step, whatever number of tries it had."""
        ...


class Unwatched:
    """A watcher that does nothing, and a context manager."""

    def __enter__(self) -> Unwatched:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def started(self, step: Step) -> None:
        """Do nothing."""

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Do nothing."""


class Watchers:
    """Several watchers as one."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def started(self, step: Step) -> None:
        """Tell all of them that the executor has taken the step."""
        for watcher in self._watchers:
            watcher.started(step)

    def ended(self, step: Step, outcome: Outcome) -> None:
        """Tell all of them how the step ended."""
        for watcher in self._watchers:
            watcher.ended(step, outcome)
