"""Every step in this process, one after another: for debugging."""

from __future__ import annotations

from collections.abc import Iterable

from farm.errors import InputError
from farm.executors import Outcome, perform
from farm.plan import Step, gpus
from farm.store import Store


class InlineExecutor:
    def __init__(self, store: Store, echo: bool = False) -> None:
        self._store, self._echo = store, echo
        self._taken: Step | None = None

    def admit(self, steps: Iterable[Step]) -> None:
        for step in steps:
            wanted = step.needs.accelerator
            if wanted and wanted not in map(gpus.accelerator, (gpu.name for gpu in gpus.gpus())):
                raise InputError(
                    f"{step.label} needs accelerator {wanted}, which is not here; "
                    "run on a Ray cluster that has one (--address)",
                    "--executor inline",
                )

    def take(self, step: Step) -> bool:
        if self._taken is not None:
            return False
        self._taken = step
        return True

    def wait(self) -> Outcome:
        assert self._taken is not None
        step, self._taken = self._taken, None
        return perform(step, str(self._store.root), self._echo)

    def stop(self) -> None:
        pass
