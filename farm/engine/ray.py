"""Run steps as Ray tasks, each on a node that can run it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm import interrupts
from farm.engine import private_ray
from farm.engine.awaited import Awaited
from farm.engine.connect import connect, off_stdout
from farm.engine.limits import Limits
from farm.engine.nodes import Node, Nodes
from farm.engine.status import Outcome, StepStatus
from farm.engine.supervise import clear_up, shared_supervisor
from farm.engine.temporary import remove_abandoned
from farm.errors import FailureKind, InputError, class_name, text_of
from farm.plan.placement import step_unsupported

if TYPE_CHECKING:
    from farm.engine.limits import Limit
    from farm.plan.steps import Step
    from farm.store import Store

log = logging.getLogger(__name__)

# Ray queues tasks that find no free core; a few more than there are cores keep all of them busy.
_QUEUE = 2

_INTERRUPTED_S = 5.0
"""How often an interruption is looked for that a library has caught, in seconds."""


@dataclass(frozen=True)
class Task:
    """A running step. node: the node it was submitted to; None where Ray chooses."""

    step: Step
    node: str | None


class RayExecutor:
    """An executor of `run_steps` that takes as many steps as the cluster has cores and GPUs.

    An exclusive step gets all cores of one node. Each task supervises the worker process in which
    its step runs; see `engine.supervise`.
    """

    def __init__(
        self,
        store: Store,
        address: str | None,
        limits: Limits | None = None,
        wait_for_nodes_s: float = 0.0,
    ) -> None:
        self._store, self._limits = store, limits or Limits()
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._own = not ray.is_initialized()
        if self._own:
            connect(self._address)
        self._stdout = ExitStack()
        self._stdout.enter_context(off_stdout(self._address))
        self._tasks: dict[Any, Task] = {}
        self._calls: dict[str, Any] = {}
        self._nodes = Nodes(store)
        self._awaited = Awaited(wait_for_nodes_s if self._address else 0.0)
        self._left_out = set[str]()

    def admit(self, steps: Iterable[Step]) -> Mapping[str, str]:
        """Return why no node can run them, by key, of the optional steps.

        Raises:
            InputError: no node can run a step that is not optional.
        """
        steps, skipped = list(steps), dict[str, str]()
        self._nodes.learn_for(steps)
        self._say_left_out(steps)
        for step in steps:
            reasons = [step_unsupported(step, node.machine) for node in self._nodes]
            if not reasons or None in reasons or self._awaited.may_come(step, self._nodes):
                continue
            needed, why = step.needs.accelerator or "a CPU", "; ".join(filter(None, reasons))
            if not step.needs.optional:
                raise InputError(
                    f"no node can run {step.stage} {step.label} (it needs {needed}): {why}",
                    f"Ray cluster {self._address or 'local'}",
                )
            skipped[step.key] = f"no node has the {needed} that this needs: {why}"
        return skipped

    def _say_left_out(self, steps: list[Step]) -> None:
        """Say once of each node that can run none of the steps why that is so."""
        for node in self._nodes:
            machine = node.machine
            if node.id in self._left_out or any(
                step_unsupported(step, machine) is None for step in steps
            ):
                continue
            self._left_out.add(node.id)
            reasons = Counter(filter(None, (step_unsupported(step, machine) for step in steps)))
            # A head without CPUs is meant to run none.
            level = logging.WARNING if machine.cpus else logging.DEBUG
            for reason, _ in reasons.most_common(1):
                log.log(level, "A node is left out: %s", reason)

    def take(self, step: Step) -> bool:
        """Submit the step if a node that can run it has room for it; return whether one has.

        One that no node can run is taken, too, if a node may come for it.
        """
        self._nodes.refresh()
        able = [node for node in self._nodes if step_unsupported(step, node.machine) is None]
        if not able:
            return self._awaited.hold(step)
        if not self._submitted(step, able):
            self._awaited.ask_for_more(step)
            return False
        return True

    def _submitted(self, step: Step, able: list[Node]) -> bool:
        """Submit the step to one of the nodes if one has room for it."""
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
        """Wait until a step has ended; its supervisor keeps its limits.

        Raises:
            Interrupted: the user or the system ends the run.
        """
        while True:
            interrupts.check()
            awaited = self._awaited.tasks
            if awaited:
                self._nodes.refresh(now=self._awaited.has_news())
                if outcome := next(self._awaited.ended(self._nodes), None):
                    return outcome
            waited = [*self._tasks, *awaited]
            done, _ = ray.wait(waited, num_returns=1, timeout=_INTERRUPTED_S)
            if done and done[0] in self._tasks:
                return self._ended(done[0])

    def _ended(self, ref: Any) -> Outcome:
        task = self._tasks.pop(ref)
        try:
            outcome: Outcome = ray.get(ref)
        except ray.exceptions.RayError as error:
            # The task's process or its node died, or was killed for memory; a supervisor never
            # raises.
            clear_up(self._store, task.step.key)
            log.debug("lost %s %s", task.step.stage, task.step.label, exc_info=error)
            why, kind = _why_lost(error)
            return Outcome(task.step.key, StepStatus.TRANSIENT, why, kind=kind)
        return outcome

    def stop(self) -> None:
        """End the running steps, and Ray if this executor started it."""
        tasks, self._tasks = list(self._tasks), {}
        self._awaited.stop()
        with self._stdout:  # until the end, since Ray prints some messages late
            if self._own:
                # Ray ends the workers itself. Cancelling their tasks first would race with those
                # that end at that moment, and Ray would then abort this process.
                if self._address:
                    ray.shutdown()
                else:
                    private_ray.stop()
                    remove_abandoned()  # Ray has killed the supervisors of the workers
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
            options["num_cpus"] = node.machine.cpus  # all cores of the node
        if step.environment and step.environment.image:
            options["runtime_env"] = {"image_uri": step.environment.image}
        limit = self._limits.of(step.stage)
        ref = self._call(options, node).remote(step, self._store.address, limit)
        where = node.machine.host if node else "any node"
        log.debug("%s %s: %g CPUs of %s", step.stage, step.label, options["num_cpus"], where)
        self._tasks[ref] = Task(step, node.id if node else None)

    def _call(self, options: dict[str, Any], node: Node | None) -> Any:
        """The task with these options on this node; most steps of a sweep have one of a few."""
        given = options | {"scheduling_strategy": node.id if node else None}
        known = repr(sorted(given.items()))
        if known not in self._calls:
            self._calls[known] = _supervise.options(**options)
        return self._calls[known]


@ray.remote
def _supervise(step: Step, root: str, limit: Limit) -> Outcome:
    return shared_supervisor().run(step, root, limit)


def _why_lost(error: Exception) -> tuple[str, FailureKind]:
    """Why a task has no outcome, and the class of that."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "Ray ended it, since memory ran out on its node", FailureKind.OOM
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return "the process that supervised it was killed", FailureKind.NODE_LOST
    first = text_of(error).strip().partition("\n")[0]
    return f"{class_name(error)}: {first}", FailureKind.NODE_LOST


def _any_can_run(step: Step, nodes: list[Node]) -> bool:
    return any(step_unsupported(step, node.machine) is None for node in nodes)


def _spread(total: int, able: list[Node], free: list[Node]) -> Node | None:
    """The node to submit a step to; None, where every node can run it, lets Ray choose."""
    if total == len(able) == len(free):
        return None
    return max(free, key=lambda node: node.machine.cpus)
