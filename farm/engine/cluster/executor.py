"""Run steps as Ray tasks, each on a node that can run it; short ones several as one task."""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from farm import interrupts
from farm.engine.cluster.awaited import Awaited
from farm.engine.cluster.batches import Batch, Durations, place
from farm.engine.cluster.connect import connect, disconnect, off_stdout
from farm.engine.cluster.nodes import Node, Nodes
from farm.engine.status import Outcome, StepStatus
from farm.engine.workers.ends import clear_up
from farm.engine.workers.limits import Limits
from farm.engine.workers.supervise import Report, shared_supervisor
from farm.errors import ClusterLost, FailureKind, InputError, class_name, text_of
from farm.plan.placement import step_unsupported

if TYPE_CHECKING:
    from farm.engine.workers.limits import Limit
    from farm.plan.steps import Step
    from farm.store import Store

log = logging.getLogger(__name__)

_WAIT_S = 0.5
"""How long Ray is waited for at a time, in seconds: an interruption and a new node wait for it."""


class _NodeGone(Exception):
    """A node is not there any more, and Ray has not said so of what waits there."""


class RayExecutor:
    """An executor of `run_steps` that takes as many steps as the cluster has cores and GPUs.

    An exclusive step gets all cores of one node. Each task supervises the worker process in which
    its steps run; see `engine.workers.supervise`. A task has one step, or some that are known to be
    short.
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
        self._tasks: dict[Any, Batch] = {}
        self._open: list[Batch] = []  # which get more steps until the next `wait`
        self._outcomes = deque[Outcome]()
        self._durations = Durations()
        self._calls: dict[str, Any] = {}
        self._nodes = Nodes(store)
        self._awaited = Awaited(wait_for_nodes_s if self._address else 0.0)
        self._left_out = set[str]()
        self._lost_on: dict[str, set[str | None]] = defaultdict(set)
        self._stopped = False

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

        Raises:
            ClusterLost: the cluster does not answer any more.
        """
        self._nodes.require_cluster()
        able = [node for node in self._nodes if step_unsupported(step, node.machine) is None]
        if not able:
            return self._nodes.settled and self._awaited.hold(step)
        lost_on = self._lost_on.get(step.key, ())
        able = [node for node in able if node.id not in lost_on] or able
        if not self._submitted(step, able):
            self._awaited.ask_for_more(step)
            return False
        return True

    def _submitted(self, step: Step, able: list[Node]) -> bool:
        """Add the step to a task on one of the nodes if one has room for it."""
        seconds = self._durations.of_short(step)
        if seconds is not None:
            everywhere = len(able) == len(self._nodes)
            for batch in self._open:
                if batch.has_room_for(step, seconds, able, everywhere):
                    batch.add(step, seconds)
                    return True
        tasks = [*self._tasks.values(), *self._open]
        if (placed := place(step, able, tasks, several=len(self._nodes) > 1)) is None:
            return False
        placed.add(step, seconds or 0.0)
        if seconds is None:
            self._submit(placed)
        else:
            self._open.append(placed)
        return True

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
        opened, self._open = self._open, []
        for batch in opened:
            self._submit(batch)
        if self._awaited.tasks:
            if self._awaited.has_news():
                self._nodes.look()
            yield from self._awaited.ended(self._nodes, self._nodes.settled)
        yield from self._gone()
        if waited := [*self._tasks, *self._awaited.tasks]:
            done, _ = ray.wait(waited, num_returns=1, timeout=_WAIT_S)
            if done and done[0] in self._tasks:
                yield from self._reported(done[0])

    def _reported(self, reports: Any) -> Iterator[Outcome]:
        """The outcomes in the next report of a task. Raises ClusterLost."""
        batch = self._tasks[reports]
        try:
            report: Report = ray.get(next(reports))
        except ray.exceptions.LocalRayletDiedError:
            raise ClusterLost from None
        except (ray.exceptions.RayError, StopIteration) as error:
            # The task's process or its node died, or was killed for memory; a supervisor never
            # raises.
            del self._tasks[reports]
            self._nodes.doubt(batch.node_id)
            yield from self._lost(batch, error)
            return
        for outcome in report.ended:
            self._durations.note(batch.steps.pop(outcome.key), outcome.seconds)
            yield outcome
        for key in report.returned:
            del batch.steps[key]
            yield Outcome(key, StepStatus.WAITING)
        if not batch.steps:
            del self._tasks[reports]

    def _gone(self) -> Iterator[Outcome]:
        """The outcomes of steps whose nodes are gone, of which Ray has not said so."""
        gone = self._nodes.are_gone({one.node_id for one in self._tasks.values() if one.node_id})
        for reports in [one for one, batch in self._tasks.items() if batch.node_id in gone]:
            batch = self._tasks.pop(reports)
            yield from self._lost(batch, _NodeGone("its node is gone"))

    def _lost(self, batch: Batch, error: Exception) -> Iterator[Outcome]:
        """The outcomes of steps whose task has ended before them: the first was under way."""
        why, kind = _why_lost(error)
        for step in batch.steps.values():
            if len(batch.steps) > 1 and self._store.record(step.ref):  # it was not reported yet
                yield Outcome(step.key, StepStatus.DONE)
            elif kind is None:
                yield Outcome(step.key, StepStatus.WAITING)
            else:
                clear_up(self._store, step.key)
                log.debug("lost %s %s", step.stage, step.label, exc_info=error)
                self._lost_on[step.key].add(batch.node_id)
                lost = kind is FailureKind.NODE_LOST
                yield Outcome(step.key, StepStatus.TRANSIENT, why, kind=kind, lost=lost)
                kind = None

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
        for batch in tasks.values():
            for key in batch.steps:
                clear_up(self._store, key)

    def _submit(self, batch: Batch) -> None:
        # No retries by Ray: the scheduler counts them, and knows which failures are transient.
        options: dict[str, Any] = {"num_cpus": batch.needs.cpus, "max_retries": 0}
        node, environment = batch.node, batch.environment
        if batch.needs.accelerator:
            options |= {"num_gpus": 1, "accelerator_type": batch.needs.accelerator}
        if node is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node.id, soft=False)
        if batch.needs.exclusive and node is not None:
            options["num_cpus"] = node.machine.cpus  # all cores of the node
        if environment and environment.image:
            options["runtime_env"] = {"image_uri": environment.image}
        steps = [(step, self._limits.of(step.stage)) for step in batch.steps.values()]
        with interrupts.deferred():
            reports = self._call(options, node).remote(steps, self._store.address)
            self._tasks[reports] = batch
        where = node.machine.host if node else "any node"
        names = ", ".join(f"{step.stage} {step.label}" for step, _ in steps)
        log.debug("%s: %g CPUs of %s", names, options["num_cpus"], where)

    def _call(self, options: dict[str, Any], node: Node | None) -> Any:
        """The task with these options on this node; most steps of a sweep have one of a few."""
        given = options | {"scheduling_strategy": node.id if node else None}
        known = repr(sorted(given.items()))
        if known not in self._calls:
            self._calls[known] = _supervise.options(**options)
        return self._calls[known]


@ray.remote(num_returns="streaming")
def _supervise(steps: Sequence[tuple[Step, Limit]], root: str) -> Iterator[Report]:
    yield from shared_supervisor().run_in_turn(steps, root)


def _why_lost(error: Exception) -> tuple[str, FailureKind | None]:
    """Why a task has no outcome, and the class of that."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "Ray ended it, since memory ran out on its node", FailureKind.OOM
    if isinstance(error, _NodeGone):
        return str(error), FailureKind.NODE_LOST
    if isinstance(error, ray.exceptions.WorkerCrashedError):
        return "the process that supervised it was killed", FailureKind.NODE_LOST
    first = text_of(error).strip().partition("\n")[0]
    return f"{class_name(error)}: {first}", FailureKind.NODE_LOST
