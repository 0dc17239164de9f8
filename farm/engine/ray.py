"""Run steps as Ray tasks, each on a node that can run it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm import interrupts
from farm.engine.connect import connect, off_stdout
from farm.engine.nodes import Node, Nodes
from farm.engine.process import CHECK_S, clear_up, perform_where_due
from farm.engine.status import Outcome, StepStatus
from farm.errors import InputError, class_name, text_of
from farm.plan.compatibility import step_unsupported

if TYPE_CHECKING:
    from farm.plan.steps import Step
    from farm.store import Store

log = logging.getLogger(__name__)

# Ray queues tasks that find no free core; a few more than there are cores keep all of them busy.
_QUEUE = 2
_LIMIT_CHECK_S = 5.0


@dataclass(frozen=True)
class Task:
    """A running step. node: the node it was submitted to; None where Ray chooses. began: by
    `time.monotonic`."""

    step: Step
    node: str | None
    began: float


class RayExecutor:
    """An executor of `run_steps` that takes as many steps as the cluster has cores and GPUs.

    An exclusive step gets all cores of one node. limit_s: the time limit of a step; check_s: that
    of a model's check, both in seconds.
    """

    def __init__(
        self, store: Store, address: str | None, limit_s: float, check_s: float = CHECK_S
    ) -> None:
        self._store, self._limit_s, self._check_s = store, limit_s, check_s
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._own = not ray.is_initialized()
        if self._own:
            connect(self._address)
        self._stdout = ExitStack()
        self._stdout.enter_context(off_stdout(self._address))
        self._tasks: dict[Any, Task] = {}
        self._nodes = Nodes(store)

    def admit(self, steps: Iterable[Step]) -> Mapping[str, str]:
        """Return why no node can run them, by key, of the optional steps.

        Raises:
            InputError: no node can run a step that is not optional.
        """
        steps, skipped = list(steps), dict[str, str]()
        self._nodes.learn_for(steps)
        for step in steps:
            reasons = [step_unsupported(step, node.machine) for node in self._nodes]
            if not reasons or None in reasons:
                continue
            needed, why = step.needs.accelerator or "a CPU", "; ".join(filter(None, reasons))
            if not step.needs.optional:
                raise InputError(
                    f"no node can run {step.stage} {step.label} (it needs {needed}): {why}",
                    f"Ray cluster {self._address or 'local'}",
                )
            skipped[step.key] = f"no node has the {needed} that this needs: {why}"
        return skipped

    def take(self, step: Step) -> bool:
        """Submit the step if a node that can run it has room for it; return whether one has."""
        self._nodes.refresh()
        able = [node for node in self._nodes if step_unsupported(step, node.machine) is None]
        alone = {task.node for task in self._tasks.values() if task.step.needs.exclusive}
        free = [node for node in able if node.id not in alone]
        shared = [task for task in self._tasks.values() if not task.step.needs.exclusive]
        if step.needs.exclusive:
            # Submitted only when nothing else runs on the nodes that can run it: otherwise Ray
            # would keep cores idle until the last one of a node is free.
            others = [task for task in shared if _any_can_run(task.step, able)]
            if others or not free:
                return False
            self._submit(step, free[0])
        elif step.needs.accelerator:
            # Never more steps than GPUs: a step that waits for one would use up its time limit.
            if not (free := self._with_a_gpu(free)):
                return False
            self._submit(step, max(free, key=lambda node: node.machine.cpus))
        else:
            if not free or len(shared) >= sum(node.machine.cpus for node in free) + _QUEUE:
                return False
            self._submit(step, _spread(len(self._nodes), able, free))
        return True

    def _with_a_gpu(self, nodes: list[Node]) -> list[Node]:
        """The nodes that have a free GPU."""
        users = [task.node for task in self._tasks.values() if task.step.needs.accelerator]
        return [node for node in nodes if users.count(node.id) < node.machine.gpu_count]

    def wait(self) -> Outcome:
        """Wait until a step has ended or has reached its time limit.

        Raises:
            Interrupted: the user or the system ends the run.
        """
        while True:
            interrupts.check()
            done, _ = ray.wait(list(self._tasks), num_returns=1, timeout=self._wait_s())
            if done:
                return self._ended(done[0])
            for ref, task in self._tasks.items():
                if time.monotonic() - task.began > self._limit_s:
                    ray.cancel(ref, force=True)
                    del self._tasks[ref]
                    clear_up(self._store, task.step.key)
                    reason = f"took longer than {self._limit_s / 60:g} minutes (--step-minutes)"
                    return Outcome(task.step.key, StepStatus.TIMED_OUT, reason)

    def _wait_s(self) -> float:
        """Seconds until a step may reach its limit, but few enough to notice an interruption."""
        began = min(task.began for task in self._tasks.values())
        remaining = began + self._limit_s - time.monotonic()
        return min(max(remaining, 0.1), _LIMIT_CHECK_S)

    def _ended(self, ref: Any) -> Outcome:
        task = self._tasks.pop(ref)
        try:
            outcome: Outcome = ray.get(ref)
        except ray.exceptions.RayError as error:
            # The worker or its node died, or was killed for memory; `perform` itself never raises.
            clear_up(self._store, task.step.key)
            log.debug("lost %s %s", task.step.stage, task.step.label, exc_info=error)
            return Outcome(task.step.key, StepStatus.TRANSIENT, _why_lost(error))
        return outcome

    def stop(self) -> None:
        """End the running steps, and Ray if this executor started it."""
        tasks, self._tasks = list(self._tasks), {}
        with self._stdout:  # until the end, since Ray prints some messages late
            if self._own:
                # Ray ends the workers itself. Cancelling their tasks first would race with those
                # that end at that moment, and Ray would then abort this process.
                ray.shutdown()
                return
            for ref in tasks:
                ray.cancel(ref, force=True)

    def _submit(self, step: Step, node: Node | None) -> None:
        # No retries by Ray: the scheduler counts them, and knows which failures are transient.
        options: dict[str, Any] = {"num_cpus": step.needs.cpus, "max_retries": 0}
        if step.needs.accelerator:
            options |= {"num_gpus": 1, "accelerator_type": step.needs.accelerator}
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
        if step.needs.exclusive and node is not None:
            # All cores of the node, and a new process without the threads and memory of another
            # engine: Ray does not share workers between environments.
            options["num_cpus"] = node.machine.cpus
            options["runtime_env"] = {"env_vars": {"FARM_EXCLUSIVE": "1"}}
        if step.environment and step.environment.image:
            environment = options.setdefault("runtime_env", {})
            environment["image_uri"] = step.environment.image
        call = _perform_alone if step.needs.exclusive or step.needs.accelerator else _perform
        ref = call.options(**options).remote(step, str(self._store.root), self._check_s)
        where = node.machine.host if node else "any node"
        log.debug("%s %s: %g CPUs of %s", step.stage, step.label, options["num_cpus"], where)
        self._tasks[ref] = Task(step, node.id if node else None, time.monotonic())


_perform = ray.remote(perform_where_due)
# In a process that ends after the step: one that has used a GPU keeps its memory and its errors.
# (Ray does this by itself only where the decorator requests GPUs, not where the options do.)
_perform_alone = ray.remote(max_calls=1)(perform_where_due)


def _why_lost(error: Exception) -> str:
    """Why a task has no outcome."""
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return "its process ended: its code ended or crashed it, or it was killed (out of memory?)"
    first = text_of(error).strip().partition("\n")[0]
    return f"{class_name(error)}: {first}"


def _any_can_run(step: Step, nodes: list[Node]) -> bool:
    return any(step_unsupported(step, node.machine) is None for node in nodes)


def _spread(total: int, able: list[Node], free: list[Node]) -> Node | None:
    """The node to submit a step to; None, where every node can run it, lets Ray choose."""
    if total == len(able) == len(free):
        return None
    return max(free, key=lambda node: node.machine.cpus)
