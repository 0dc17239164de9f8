"""The farm's own scheduling on nodes that are not there, by a clock that is only counted.

`run_steps` gives the steps their order and `place` their nodes, as in a sweep under Ray. What takes
no time here is Ray and the steps' processes, so the result is what the order alone costs.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Mapping

import cluster_graph as graph

from farm.engine.cluster.batches import Batch, place
from farm.engine.cluster.nodes import Node
from farm.engine.scheduler import Outcome, StepStatus, Unwatched, run_steps
from farm.plan import Step
from farm.plan.placement import Machine, step_unsupported
from farm.store import Store


def seconds_of(steps: Mapping[str, Step], cores: int, nodes: graph.Nodes = graph.NODES) -> float:
    """Return how long the sweep takes on nodes of so many cores."""
    executor = VirtualExecutor([_node(name, gpu, cores) for name, gpu in nodes.items()])
    with tempfile.TemporaryDirectory() as folder:
        run_steps(steps, Store(folder), lambda: executor, Unwatched())
    return executor.now


def _node(name: str, gpu: str | None, cores: int) -> Node:
    kinds = (gpu,) if gpu else ()
    return Node(name, Machine(name, graph.CPU.device, {}, (), kinds, len(kinds), cores))


class VirtualExecutor:
    """An executor whose steps end when its clock comes to that. now: in seconds."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes, self.now = list(nodes), 0.0
        self._free = {node.id: node.machine.cpus for node in self._nodes}
        self._waiting = list[Batch]()  # placed by the farm and not begun by Ray, in their order
        self._ends = list[tuple[float, str]]()
        self._tasks: dict[str, Batch] = {}

    def admit(self, steps: Iterable[Step]) -> Mapping[str, str]:
        return {}

    def take(self, step: Step) -> bool:
        able = [node for node in self._nodes if step_unsupported(step, node.machine) is None]
        task = place(step, able, [*self._tasks.values()], several=True)
        if task is None:
            return False
        task.add(step)
        self._tasks[step.key] = task
        self._waiting.append(task)
        self._begin()
        return True

    def wait(self) -> Outcome:
        self.now, key = heapq.heappop(self._ends)
        task = self._tasks.pop(key)
        assert task.node is not None
        self._free[task.node.id] += _cores(task)
        self._begin()
        return Outcome(key, StepStatus.DONE, seconds=graph.seconds(task.steps[key]))

    def stop(self) -> None: ...

    def _begin(self) -> None:
        """Begin the tasks that their nodes have room for, as Ray does."""
        for task in self._waiting[:]:
            assert task.node is not None
            if _cores(task) <= self._free[task.node.id]:
                self._waiting.remove(task)
                self._free[task.node.id] -= _cores(task)
                ((key, step),) = task.steps.items()
                heapq.heappush(self._ends, (self.now + graph.seconds(step), key))


def _cores(task: Batch) -> float:
    assert task.node is not None
    return task.node.machine.cpus if task.needs.exclusive else task.needs.cpus
