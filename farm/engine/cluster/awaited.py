"""Nodes that are not there yet: an autoscaler starts them for Ray tasks that find no room."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from farm.engine.status import Outcome, StepStatus
from farm.failures import FailureKind
from farm.plan.machines.placement import accelerator_unsupported, step_unsupported
from farm.units import format_seconds

if TYPE_CHECKING:
    from farm.engine.cluster.reports import Node
    from farm.plan.machines.placement import Machine
    from farm.plan.steps import Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    """A step that waits for a node. asked: the task that Ray runs when there is one."""

    step: Step
    asked: Any
    until: float


class Awaited:
    """The steps for which no node is there, one of each kind, and the tasks that ask for nodes.

    Args:
        patience_s: How long a node is waited for, in seconds; 0 where none may come.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience = patience_s
        self._held: dict[Hashable, _Held] = {}
        self._given_up: dict[Hashable, str] = {}
        self._more: dict[Hashable, Any] = {}
        self._here = set[Any]()

    def may_come(self, step: Step, nodes: Iterable[Node]) -> bool:
        """Return whether Ray would ask for another node for the step: none has room for it."""
        return bool(self._patience) and not any(_has_room(step, one.machine) for one in nodes)

    def hold(self, step: Step) -> bool:
        """Ask for a node for the step, which no node can run; return whether it is held now.

        It is not if nodes are not waited for, or another step waits for the same.
        """
        kind = _kind(step)
        if not self._patience or kind in self._held:
            return False
        until = time.monotonic() + (0 if kind in self._given_up else self._patience)
        self._held[kind] = _Held(step, _ask(step), until)
        if kind not in self._given_up:
            needed, most = step.needs.accelerator or "CPUs", format_seconds(self._patience)
            log.info(f"{step.stage} {step.label} waits up to {most} for a node with {needed}.")
        return True

    def ask_for_more(self, step: Step) -> None:
        """Let the autoscaler know that the nodes which can run the step are all busy."""
        kind = _kind(step)
        if self._patience and not _is_pending(self._more.get(kind)):
            self._more[kind] = _ask(step)

    @property
    def tasks(self) -> list[Any]:
        """The tasks of held steps, which end when Ray has a node for them."""
        return [held.asked for held in self._held.values()]

    def has_news(self) -> bool:
        """Return whether a node that was asked for is there, once for each."""
        news = {task for task in self.tasks if not _is_pending(task)} - self._here
        self._here |= news
        return bool(news)

    def ended(self, nodes: Iterable[Node], settled: bool) -> Iterator[Outcome]:
        """Yield the held steps that a node can run now, as WAITING, and those given up.

        settled: all nodes that are there have said what they are.
        """
        nodes = list(nodes)
        for kind, held in list(self._held.items()):
            reasons = [step_unsupported(held.step, node.machine) for node in nodes]
            fits_none = settled and held.asked in self._here
            over = time.monotonic() > held.until or fits_none
            if None not in reasons and not over:
                continue
            del self._held[kind]
            ray.cancel(held.asked)
            if None in reasons:
                yield Outcome(held.step.key, StepStatus.WAITING)
                continue
            if kind not in self._given_up:
                needed = held.step.needs.accelerator or "a CPU"
                self._given_up[kind] = (
                    f"no node with {needed} came that can run it (waited up to "
                    f"{format_seconds(self._patience)}): {'; '.join(filter(None, reasons))}"
                )
            yield Outcome(
                held.step.key,
                StepStatus.TRANSIENT,
                self._given_up[kind],
                kind=FailureKind.NODE_LOST,
            )

    def stop(self) -> None:
        """Ask for no more nodes."""
        for task in (*self.tasks, *self._more.values()):
            ray.cancel(task)
        self._held.clear()
        self._more.clear()


@ray.remote(max_retries=0)
def _is_here() -> None:
    """Do nothing: that Ray runs it says that there is a node for it."""


def _ask(step: Step) -> Any:
    needed: dict[str, Any] = {"num_cpus": step.needs.cpus}
    if step.needs.accelerator:
        needed |= {"num_gpus": 1, "accelerator_type": step.needs.accelerator}
    return _is_here.options(**needed).remote()


def _is_pending(task: Any) -> bool:
    return task is not None and not ray.wait([task], timeout=0)[0]


def _has_room(step: Step, machine: Machine) -> bool:
    """Whether Ray would run a task for the step on the machine, now or later."""
    lacks_gpu = bool(step.needs.accelerator) and machine.gpu_count < 1
    fits = accelerator_unsupported(step, machine) is None and not lacks_gpu
    return fits and machine.cpus >= step.needs.cpus


def _kind(step: Step) -> Hashable:
    return step.needs, getattr(step.inputs, "target", None)
