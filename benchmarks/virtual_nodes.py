"""The farm's own scheduling on nodes that are not there, by a clock that is only counted.

`run_steps` gives the steps their order and `Places` their nodes, as in a sweep under Ray. Ray and
the steps' processes take no time here, so the result is what the order alone costs.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Mapping

import cluster_graph as graph

from farm.engine.cluster.placing import Places, Task
from farm.engine.cluster.reports import Node
from farm.engine.estimates import Estimates
from farm.engine.scheduler import Outcome, StepStatus, Unwatched, run_steps
from farm.plan import Step
from farm.plan.machines.placement import Machine, step_unsupported
from farm.store import Store


def seconds_of(
    steps: Mapping[str, Step], cores: int, nodes: graph.Nodes = graph.NODES, known: bool = True
) -> float:
    """Return how long the sweep takes on nodes of so many cores.

    known: what steps take is known from an earlier sweep.
    """
    estimates = Estimates()
    estimates.add_plan(steps)
    for one in steps.values() if known else ():
        estimates.note(one, graph.seconds(one), 0)
    all_nodes = [_node(name, gpu, cores) for name, gpu in nodes.items()]
    executor = VirtualExecutor(all_nodes)
    with tempfile.TemporaryDirectory() as folder:
        run_steps(steps, Store(folder), lambda: executor, Unwatched(), estimates=estimates)
    return executor.now


def _node(name: str, gpu: str | None, cores: int) -> Node:
    kinds = (gpu,) if gpu else ()
    return Node(name, Machine(name, graph.CPU.device, {}, (), kinds, len(kinds), cores))


class VirtualExecutor:
    """An executor whose steps end when its clock comes to that. now: in seconds."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes, self.now, self._places = tuple(nodes), 0.0, Places()
        self._ends = list[tuple[float, int, Task]]()
        self._count = 0

    def admit(self, steps: Iterable[Step], estimates: Estimates) -> Mapping[str, str]:
        self._places.expect(steps, estimates)
        return {}

    def forget(self, step: Step) -> None:
        self._places.forget(step)

    def take(self, step: Step) -> bool:
        able = [node for node in self._nodes if step_unsupported(step, node.machine) is None]
        if (task := self._places.choose(step, able, self._nodes)) is None:
            return False
        self._places.add(task)
        self._count += 1
        heapq.heappush(self._ends, (self.now + graph.seconds(step), self._count, task))
        return True

    def wait(self) -> Outcome:
        self.now, _, task = heapq.heappop(self._ends)
        self._places.remove(task)
        return Outcome(task.step.key, StepStatus.DONE, seconds=graph.seconds(task.step))

    def stop(self) -> None: ...
