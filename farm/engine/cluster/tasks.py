"""A step as a Ray task: its options, and why a task ended without an outcome."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm import interrupts
from farm.engine.workers.supervise import shared_supervisor
from farm.failures import FailureKind, class_name, text_of
from farm.specs import refs_of

if TYPE_CHECKING:
    from farm.engine.cluster.placing import Task
    from farm.engine.status import Outcome
    from farm.engine.workers.limits import Limit, Limits
    from farm.plan.steps import Step
    from farm.specs import Ref
    from farm.store import Store

log = logging.getLogger(__name__)

_MEMORY_UNIT = 64 << 20
"""Tasks ask for multiples of so many bytes, so that most of them ask for the same."""


class NodeGone(Exception):
    """A node is not there any more, and Ray has not said so of what waits there."""


class Submit:
    """Submits tasks, each of which supervises the worker process in which its step runs.

    Args:
        store: The driver's.
        limits: Those of the steps.
    """

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store, self._limits = store, limits
        self._calls: dict[str, Any] = {}

    def __call__(self, task: Task) -> Any:
        """Submit a task, bound to its node, and return Ray's reference."""
        step, node = task.step, task.node
        # No retries by Ray: the scheduler counts them, and knows which failures are transient.
        options: dict[str, Any] = {"num_cpus": step.needs.cpus, "max_retries": 0}
        options["memory"] = task.memory_bytes // _MEMORY_UNIT * _MEMORY_UNIT
        if step.needs.accelerator:
            options |= {"num_gpus": task.gpus, "accelerator_type": step.needs.accelerator}
        if step.needs.exclusive:
            options["num_cpus"] = node.machine.cpus  # all cores of the node
        if step.environment and step.environment.image:
            options["runtime_env"] = {"image_uri": step.environment.image}
        cpus, host = options["num_cpus"], node.machine.host
        log.debug("%s %s: %g CPUs of %s", step.stage, step.label, cpus, host)
        with interrupts.deferred():
            call = self._call(options, node.id)
            limit = replace(self._limits.of(step.stage), gpu_share=task.gpus or 1.0)
            known = self._store.known(refs_of(step.inputs))
            return call.remote(step, self._store.address, limit, known)

    def _call(self, options: Mapping[str, Any], node: str) -> Any:
        """The task with these options on this node; most steps of a sweep have one of a few."""
        known = repr((node, sorted(options.items())))
        if known not in self._calls:
            # A node's name and no label: a task for a node that is gone then fails at once.
            place = NodeAffinitySchedulingStrategy(node, soft=False)
            self._calls[known] = _supervise.options(**options, scheduling_strategy=place)
        return self._calls[known]


@ray.remote
def _supervise(step: Step, root: str, limit: Limit, known: Mapping[Ref, str]) -> Outcome:
    return shared_supervisor().run(step, root, limit, known=known)


def why_lost(error: Exception) -> tuple[str, FailureKind]:
    """Return why a task has no outcome, and the class of that."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "Ray ended it, since memory ran out on its node", FailureKind.OOM
    if isinstance(error, NodeGone):
        return str(error), FailureKind.NODE_LOST
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return "the process that supervised it was killed", FailureKind.NODE_LOST
    first = text_of(error).strip().partition("\n")[0]
    return f"{class_name(error)}: {first}", FailureKind.NODE_LOST
