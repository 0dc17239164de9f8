"""Steps as Ray tasks, on the nodes that fit them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm import interrupts
from farm.engine.connect import connect, off_stdout
from farm.engine.nodes import Node, Nodes
from farm.engine.process import CHECK_S, clear_up, perform_where_due
from farm.engine.scheduler import Outcome
from farm.errors import InputError, kind_of, text_of
from farm.plan import Step
from farm.plan.compatibility import step_unsupported
from farm.store import Store

# Ray keeps what it cannot place in its own queue; a few more than fit keep every core busy.
_QUEUE = 2
_LIMIT_CHECK_S = 5.0


@dataclass(frozen=True)
class Task:
    """A step under way. node: where it was put; None where Ray chose."""

    step: Step
    node: str | None
    began: float


class RayExecutor:
    """Takes steps up to the cluster's cores, and its GPUs. An exclusive step gets one node's cores
    all."""

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
        steps, left = list(steps), dict[str, str]()
        self._nodes.ask_for(steps)
        for step in steps:
            reasons = [step_unsupported(step, node.machine) for node in self._nodes]
            if not reasons or None in reasons:
                continue
            needed, told = step.needs.accelerator or "a CPU", "; ".join(filter(None, reasons))
            if not step.needs.optional:
                raise InputError(
                    f"no node can run {step.stage} {step.label} (it needs {needed}): {told}",
                    f"Ray cluster {self._address or 'local'}",
                )
            left[step.key] = f"no node has the {needed} that this needs: {told}"
        return left

    def take(self, step: Step) -> bool:
        self._nodes.look()
        fitting = [node for node in self._nodes if step_unsupported(step, node.machine) is None]
        alone = {task.node for task in self._tasks.values() if task.step.needs.exclusive}
        free = [node for node in fitting if node.id not in alone]
        shared = [task for task in self._tasks.values() if not task.step.needs.exclusive]
        if step.needs.exclusive:
            # Asked for only when nothing else is under way where it could run: all cores of a node
            # then come free at once, and no core waits idle for the last of them.
            others = [task for task in shared if _any_can_run(task.step, fitting)]
            if others or not free:
                return False
            self._submit(step, free[0])
        elif step.needs.accelerator:
            # Never more than there are GPUs: what waits for one would use up its time limit.
            if not (free := self._with_a_gpu(free)):
                return False
            self._submit(step, max(free, key=lambda node: node.machine.cpus))
        else:
            if not free or len(shared) >= sum(node.machine.cpus for node in free) + _QUEUE:
                return False
            self._submit(step, _spread(len(self._nodes), fitting, free))
        return True

    def _with_a_gpu(self, nodes: list[Node]) -> list[Node]:
        """Those that have one left."""
        users = [task.node for task in self._tasks.values() if task.step.needs.accelerator]
        return [node for node in nodes if users.count(node.id) < node.machine.gpu_count]

    def wait(self) -> Outcome:
        while True:
            interrupts.check()
            done, _ = ray.wait(list(self._tasks), num_returns=1, timeout=self._next_look())
            if done:
                return self._ended(done[0])
            for ref, task in self._tasks.items():
                if time.monotonic() - task.began > self._limit_s:
                    ray.cancel(ref, force=True)
                    del self._tasks[ref]
                    clear_up(self._store, task.step.key)
                    reason = f"took longer than {self._limit_s / 60:g} minutes (--step-minutes)"
                    return Outcome(task.step.key, "late", reason)

    def _next_look(self) -> float:
        """In how many seconds a step may have come to its limit; soon, to see an interruption."""
        began = min(task.began for task in self._tasks.values())
        left = began + self._limit_s - time.monotonic()
        return min(max(left, 0.1), _LIMIT_CHECK_S)

    def _ended(self, ref: Any) -> Outcome:
        task = self._tasks.pop(ref)
        try:
            outcome: Outcome = ray.get(ref)
        except ray.exceptions.RayError as error:
            # The worker or its node died, or was killed for memory: `perform` itself never raises.
            clear_up(self._store, task.step.key)
            return Outcome(task.step.key, "transient", _lost(error))
        return outcome

    def stop(self) -> None:
        """End what is under way, and the Ray that this executor began."""
        tasks, self._tasks = list(self._tasks), {}
        with self._stdout:  # until the end: Ray keeps some messages back
            if self._own:
                # Ray ends the workers of a driver that leaves. Cancelling them before would race
                # with those that finish at that moment: Ray then aborts this process.
                ray.shutdown()
                return
            for ref in tasks:
                ray.cancel(ref, force=True)

    def _submit(self, step: Step, node: Node | None) -> None:
        # Tries are counted by the farm, which knows which failures pass: none of Ray's own.
        options: dict[str, Any] = {"num_cpus": step.needs.cpus, "max_retries": 0}
        if step.needs.accelerator:
            options |= {"num_gpus": 1, "accelerator_type": step.needs.accelerator}
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
        if step.needs.exclusive and node is not None:
            # All its cores, and a process of its own (Ray keeps apart the workers of another
            # environment): no other engine's threads or memory.
            options["num_cpus"] = node.machine.cpus
            options["runtime_env"] = {"env_vars": {"FARM_EXCLUSIVE": "1"}}
        call = _perform_alone if step.needs.exclusive or step.needs.accelerator else _perform
        ref = call.options(**options).remote(step, str(self._store.root), self._check_s)
        self._tasks[ref] = Task(step, node.id if node else None, time.monotonic())


_perform = ray.remote(perform_where_due)
# In a process that ends afterwards: one that used a GPU keeps that one, and what went wrong there.
# (Ray does so by itself only where the decorator asks for GPUs, not where the options do.)
_perform_alone = ray.remote(max_calls=1)(perform_where_due)


def _lost(error: Exception) -> str:
    """Why a task has no outcome."""
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return "its process ended: its code ended or crashed it, or it was killed (out of memory?)"
    first = text_of(error).strip().partition("\n")[0]
    return f"{kind_of(error)}: {first}"


def _any_can_run(step: Step, nodes: list[Node]) -> bool:
    return any(step_unsupported(step, node.machine) is None for node in nodes)


def _spread(total: int, fitting: list[Node], free: list[Node]) -> Node | None:
    """None lets Ray choose, where every node of the cluster would do; else one that fits."""
    if total == len(fitting) == len(free):
        return None
    return max(free, key=lambda node: node.machine.cpus)
