"""Run a plan's steps one after another in worker processes of this machine, without Ray."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from farm.engine.workers.limits import Limits
from farm.engine.workers.supervise import shared_supervisor
from farm.errors import InputError
from farm.plan.machines import placement
from farm.specs import refs_of

if TYPE_CHECKING:
    from farm.engine.estimates import Estimates
    from farm.engine.status import Outcome
    from farm.plan.steps import Step
    from farm.store import Store

log = logging.getLogger(__name__)


class LocalExecutor:
    """An executor of `run_steps` that runs one step at a time.

    limits: None for the defaults, where there is no matrix. echo: show the steps' logs on the
    terminal. until: when the run ends, by `time.monotonic`; the step that runs then and all later
    ones are SKIPPED.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits | None = None,
        echo: bool = False,
        until: float | None = None,
    ) -> None:
        self._store, self._limits, self._until = store, limits or Limits(of_matrix=False), until
        self._supervisor = shared_supervisor(echo)
        self._taken: Step | None = None

    def admit(self, steps: Iterable[Step], estimates: Estimates) -> Mapping[str, str]:
        """Return why this machine cannot run them, by key, of the optional steps.

        Raises:
            InputError: a step that is not optional needs a GPU that this machine does not have, or
                a container, which only Ray starts.
        """
        kinds = tuple(placement.accelerator(gpu.name) for gpu in placement.gpus())
        here, reasons = placement.Machine("here", "", {}, accelerators=kinds), dict[str, str]()
        log.debug("this machine's accelerators: %s", ", ".join(kinds) or "none")
        for step in steps:
            if step.environment and step.environment.image:
                raise InputError(
                    f"{step.stage} {step.label} runs in the container image "
                    f"{step.environment.image}, which only Ray starts: use --executor ray",
                    "--executor inline",
                )
            if placement.accelerator_unsupported(step, here) is None:
                continue
            reason = (
                f"accelerator {step.needs.accelerator} is not here; run on a Ray cluster that has"
                " one (--address)"
            )
            if not step.needs.optional:
                raise InputError(f"{step.stage} {step.label}: {reason}", "--executor inline")
            reasons[step.key] = reason
        return reasons

    def forget(self, step: Step) -> None:
        """Do nothing: nothing is kept of steps that are not running."""

    def take(self, step: Step) -> bool:
        """Take the step unless another one is taken."""
        if self._taken is not None:
            return False
        self._taken = step
        return True

    def wait(self) -> Outcome:
        """Run the step that was taken to its end."""
        assert self._taken is not None
        step, self._taken = self._taken, None
        limit = self._limits.of(step.stage)
        known = self._store.known(refs_of(step.inputs))
        return self._supervisor.run(step, self._store.address, limit, self._until, known)

    def stop(self) -> None:
        """Do nothing: no step runs outside of `wait`, and the workers end with this process."""
