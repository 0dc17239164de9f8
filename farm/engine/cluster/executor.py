"""Run steps as Ray tasks, each on a node that can run it."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import ray

from farm import interrupts
from farm.engine.cluster.awaited import Awaited
from farm.engine.cluster.connect import connect, disconnect, off_stdout
from farm.engine.cluster.nodes import Nodes
from farm.engine.cluster.placing import Places, Task
from farm.engine.cluster.tasks import NodeGone, Submit, why_lost
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.ends import clear_up
from farm.errors import ClusterLost, InputError
from farm.failures import FailureKind
from farm.plan.machines.placement import step_unsupported

if TYPE_CHECKING:
    from farm.engine.cluster.reports import Node
    from farm.engine.estimates import Estimates
    from farm.engine.workers.limits import Limits
    from farm.plan.steps import Step
    from farm.store import Store

log = logging.getLogger(__name__)

_WAIT_S = 0.5
"""How long Ray is waited for at a time, in seconds: an interruption and a new node wait for it."""


class RayExecutor:
    """An executor of `run_steps` that takes as many steps as the cluster has cores and GPUs.

    An exclusive step gets all cores of one node. Each task supervises the worker process in which
    its step runs; see `engine.workers.supervise`.
    """

    def __init__(
        self, store: Store, address: str | None, limits: Limits, wait_for_nodes_s: float
    ) -> None:
        self._store = store
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._own = not ray.is_initialized()
        if self._own:
            connect(self._address)
        self._stdout = ExitStack()
        self._stdout.enter_context(off_stdout(self._address))
        self._tasks: dict[Any, Task] = {}
        self._outcomes = deque[Outcome]()
        self._places = Places()
        self._submit = Submit(store, limits)
        self._able: dict[Hashable, list[Node]] = {}
        self._able_of: tuple[Node, ...] = ()
        self._nodes = Nodes(store)
        self._awaited = Awaited(wait_for_nodes_s if self._address else 0.0)
        self._left_out = set[str]()
        self._lost_on: dict[str, set[str | None]] = defaultdict(set)
        self._stopped = False

    def admit(self, steps: Iterable[Step], estimates: Estimates) -> Mapping[str, str]:
        """Return why no node can run them, by key, of the optional steps.

        Raises:
            InputError: no node can run a step that is not optional.
        """
        steps, skipped = list(steps), dict[str, str]()
        self._nodes.learn_for(steps)
        self._places.expect(steps, estimates)
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

    def forget(self, step: Step) -> None:
        """Take notice that a step was ended for good."""
        self._places.forget(step)

    def take(self, step: Step) -> bool:
        """Submit the step if a node that can run it has room for it; return whether one has.

        One that no node can run is taken, too, if a node may come for it.

        Raises:
            ClusterLost: the cluster does not answer any more.
        """
        self._nodes.require_cluster()
        nodes = self._nodes.known
        able = self._able_nodes(step, nodes)
        if not able:
            return self._nodes.settled and self._awaited.hold(step)
        lost_on = self._lost_on.get(step.key, ())
        able = [node for node in able if node.id not in lost_on] or able
        if (task := self._places.choose(step, able, nodes)) is None:
            self._awaited.ask_for_more(step)
            return False
        self._tasks[self._submit(task)] = task
        self._places.add(task)
        return True

    def _able_nodes(self, step: Step, nodes: tuple[Node, ...]) -> list[Node]:
        """The nodes that can run the step, which are the same for all steps that need the same."""
        if self._able_of is not nodes:
            self._able, self._able_of = {}, nodes
        kind = step.needs, getattr(step.inputs, "target", None), step.toolchain, step.environment
        if kind not in self._able:
            able = [node for node in nodes if step_unsupported(step, node.machine) is None]
            self._able[kind] = able
        return self._able[kind]

    def wait(self) -> Outcome | None:
        """Wait until a step has ended; its supervisor keeps its limits.

        Return None if none has for half a second.

        Raises:
            ClusterLost: the cluster does not answer any more.
            Interrupted: the user or the system ends the run.
        """
        if not self._outcomes:
            self._nodes.require_cluster()
            with interrupts.deferred():  # nothing is raised within Ray
                self._outcomes.extend(self._ended())
        return self._outcomes.popleft() if self._outcomes else None

    def _ended(self) -> Iterator[Outcome]:
        if self._awaited.tasks:
            if self._awaited.has_news():
                self._nodes.look()
            yield from self._awaited.ended(self._nodes, self._nodes.settled)
        yield from self._gone()
        if waited := [*self._tasks, *self._awaited.tasks]:
            done, _ = ray.wait(waited, num_returns=1, timeout=_WAIT_S)
            if done and done[0] in self._tasks:
                yield self._outcome(done[0])

    def _outcome(self, ref: Any) -> Outcome:
        """The outcome of a task that is over. Raises ClusterLost."""
        task = self._tasks.pop(ref)
        self._places.remove(task)
        try:
            outcome: Outcome = ray.get(ref)
        except ray.exceptions.LocalRayletDiedError:
            raise ClusterLost from None
        except ray.exceptions.RayError as error:
            # The task's process or its node died, or was killed for memory; a supervisor never
            # raises.
            self._nodes.doubt(task.node.id)
            return self._lost(task, error)
        return outcome

    def _gone(self) -> Iterator[Outcome]:
        """The outcomes of steps whose nodes are gone, of which Ray has not said so."""
        gone = self._nodes.are_gone({task.node.id for task in self._tasks.values()})
        for ref in [one for one, task in self._tasks.items() if task.node.id in gone]:
            task = self._tasks.pop(ref)
            self._places.remove(task)
            yield self._lost(task, NodeGone("its node is gone"))

    def _lost(self, task: Task, error: Exception) -> Outcome:
        """The outcome of a step whose task has ended before it."""
        step, (why, kind) = task.step, why_lost(error)
        clear_up(self._store, step.key)
        log.debug("lost %s %s", step.stage, step.label, exc_info=error)
        self._lost_on[step.key].add(task.node.id)
        lost = kind is FailureKind.NODE_LOST
        return Outcome(step.key, StepStatus.TRANSIENT, why, kind=kind, lost=lost)

    def stop(self) -> None:
        """End the running steps, and Ray if this executor started it."""
        if self._stopped:
            return
        self._stopped = True
        tasks, self._tasks = self._tasks, {}
        # Nothing is asked of a Ray that does not answer, nor of one in which the sweep was
        # interrupted: that may take long, and abort this process where steps end.
        answers = self._nodes.close() and not interrupts.came()
        if answers:
            self._awaited.stop()
        with self._stdout:  # until the end, since Ray prints some messages late
            if self._own:
                # Ray ends the workers itself. Cancelling their tasks first would race with those
                # that end at that moment, and Ray would then abort this process.
                disconnect(self._address, answers)
            elif answers:
                for ref in tasks:
                    ray.cancel(ref, force=True)
        for task in tasks.values():
            clear_up(self._store, task.step.key)
