"""Every step in this process, one after another: for debugging. `check` is apart all the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from farm.engine.process import CHECK_S, perform_where_due
from farm.engine.scheduler import Outcome
from farm.errors import InputError
from farm.plan import Step, placement
from farm.plan.compatibility import accelerator_unsupported
from farm.store import Store


class InlineExecutor:
    def __init__(self, store: Store, echo: bool = False, check_s: float = CHECK_S) -> None:
        self._store, self._echo, self._check_s = store, echo, check_s
        self._taken: Step | None = None

    def admit(self, steps: Iterable[Step]) -> Mapping[str, str]:
        kinds = tuple(placement.accelerator(gpu.name) for gpu in placement.gpus())
        here, left = placement.Machine("here", "", {}, accelerators=kinds), dict[str, str]()
        for step in steps:
            if accelerator_unsupported(step, here) is None:
                continue
            reason = (
                f"accelerator {step.needs.accelerator} is not here; run on a Ray cluster that has"
                " one (--address)"
            )
            if not step.needs.optional:
                raise InputError(f"{step.stage} {step.label}: {reason}", "--executor inline")
            left[step.key] = reason
        return left

    def take(self, step: Step) -> bool:
        if self._taken is not None:
            return False
        self._taken = step
        return True

    def wait(self) -> Outcome:
        assert self._taken is not None
        step, self._taken = self._taken, None
        return perform_where_due(step, str(self._store.root), self._check_s, self._echo)

    def stop(self) -> None:
        pass
