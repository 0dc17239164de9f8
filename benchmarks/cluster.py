"""How well a cluster is used, as ratios to goals, with nodes that are all on this machine.

    python benchmarks/cluster.py [--only NAME ...] [--models N] [--scale X] [--cores N]
                                 [--nodes N] [--steps N]

schedule: seconds of a sweep on two nodes of cores and two with a GPU of a kind each / its bound:
the larger of the longest way through its steps and of the work that only one kind of node can do
over its capacity. The steps sleep for known times, so that a few real cores stand for many; the
processes of the nodes are started before. What is above the bound is the order of the steps, the
farm's own cost, and what the real cores add where the nodes' processes wait for them. That cost is
printed with the use of the real cores by all programs: only far below 100 % is little of the ratio
theirs. (On two cores that other programs kept busy a sweep of 1.14 took 1.47.)

order: the same for the farm's scheduler and placing alone, by a clock that is only counted
(virtual_nodes.py), of that sweep and of one of half as many models. nodes: the driver's CPU for a
step by that clock, on N nodes with a model each: scheduler, placing and claims, without Ray.

joins: seconds from when Ray counts a new node during a sweep until its first step begins.

store: seconds of a sweep of steps that do nothing, on these nodes with an S3 server and without a
shared folder / those of as many bare Ray tasks that put as many objects of the same sizes. Both
have the start of their processes in them, so small numbers say little. The server is moto's, which
is Python's and answers one request at a time. The CPU that it takes is printed beside both times:
where it is near them the server is what limits, and the figure is the ratio of the requests, which
is above the goal: nodes fetch what others have made, and the driver what its rows need. Those of a
step are printed by kind. So is the CPU that all programs on the machine use meanwhile.

Each line has the figure, its goal and the ratio of both; the exit code is 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager

import cluster_graph as graph
import cluster_store
import psutil
from planning import Figure
from simulated_nodes import S3Server, SimulatedNodes, cpu_seconds, simulated_nodes
from sleeping import step

from farm.engine.estimates import Estimates
from farm.engine.scheduler import Executor, Outcome, StepStatus, Unwatched, Watcher, run_steps
from farm.engine.workers.limits import Limits
from farm.plan import Step
from farm.plan.machines.placement import cores
from farm.store import Store

NODE_CORES = 16
"""Of each of many nodes."""

JOIN_S, JOIN_STEPS = 0.5, 1000
"""The seconds of each step of the sweep that a node joins, and how many there are at most."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--cores", type=int, default=graph.CORES, help="of each node")
    parser.add_argument("--models", type=int, default=16, help="of the sweep of `schedule`")
    parser.add_argument("--scale", type=float, default=1.0, help="of its steps' seconds")
    parser.add_argument("--nodes", type=int, default=100, help="of `nodes`, 16 cores each")
    parser.add_argument("--steps", type=int, default=400, help="of `store`, a multiple of 16")
    options, missed = parser.parse_args(), 0
    with closing(S3Server()) as server, simulated_nodes(**server.variables) as nodes:
        for name in (one for one in PARTS if one in options.only):  # a node joins once
            for figure in PARTS[name](nodes, server, options):
                missed += not figure.met
                print(f"{figure}  ratio {figure.value / figure.most:.2f}", flush=True)
    return 1 if missed else 0


@contextmanager
def executor_of(nodes: SimulatedNodes) -> Iterator[tuple[Store, Executor]]:
    """An executor on the nodes and a store in a folder of its own."""
    from farm.engine.cluster.executor import RayExecutor

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = Store(folder)
        executor = RayExecutor(store, nodes.address, Limits(), 0.0)
        stack.callback(executor.stop)
        yield store, executor


def run(
    steps: Mapping[str, Step],
    store: Store,
    executor: Executor,
    watcher: Watcher,
    estimates: Estimates | None = None,
) -> dict[str, Outcome]:
    """Run the steps; return how each ended. Raises RuntimeError where one did not end well."""
    ends = run_steps(steps, store, lambda: executor, watcher, estimates=estimates)
    for key, end in ends.items():
        if end.status is not StepStatus.DONE:
            raise RuntimeError(f"{steps[key].stage} {steps[key].label}: {end.status} {end.reason}")
    return ends


class Joined(Exception):
    """A step of the node that has joined has ended. began: when it began, by the system's clock."""

    def __init__(self, began: float) -> None:
        super().__init__()
        self.began = began


class Joining(Unwatched):
    """Lets a node join when the first step has ended, and ends the sweep after a step of it."""

    def __init__(self, nodes: SimulatedNodes, store: Store, cores: int) -> None:
        self._nodes, self._store, self._cores = nodes, store, cores
        self.asked = self.joined = 0.0

    def ended(self, step: Step, outcome: Outcome) -> None:
        record = self._store.record(step.ref)
        if record is None:
            raise RuntimeError(f"{step.label}: {outcome.reason}")
        if not self.asked:
            self.asked = time.time()
            self._nodes.add("cpu1", self._cores)  # here, since Ray sets handlers of signals
            self.joined = time.time()
        if record.figures["node"] == "cpu1":
            raise Joined(float(record.figures["began"]))


def joins(nodes: SimulatedNodes, _: S3Server, options: argparse.Namespace) -> Iterator[Figure]:
    nodes.add("cpu0", options.cores)
    steps = [step("build", f"join{n}", JOIN_S) for n in range(JOIN_STEPS)]
    with executor_of(nodes) as (store, executor):
        joining = Joining(nodes, store, options.cores)
        try:
            run({one.key: one for one in steps}, store, executor, joining)
            raise RuntimeError(f"the node that joined ran none of {JOIN_STEPS} steps")
        except Joined as joined:
            seconds = joined.began - joining.joined
    print(f"  Ray counts the node {joining.joined - joining.asked:.1f} s after its start")
    yield Figure("a node that joins, to its first step", seconds, 10, "s")


def schedule(nodes: SimulatedNodes, _: S3Server, options: argparse.Namespace) -> Iterator[Figure]:
    add_all(nodes, options.cores)
    steps = graph.sweep(options.models, options.scale)
    bound, estimates = graph.bound(steps, options.cores), Estimates()
    estimates.add_plan(steps)
    for one in steps.values():  # as after an earlier sweep
        estimates.note(one, graph.seconds(one), 0)
    with executor_of(nodes) as (store, executor):
        run(warm_up(options.cores, 4 * options.scale), store, executor, Unwatched())
        psutil.cpu_percent()  # from here on
        used, own, began = cpu_seconds(), time.process_time(), time.perf_counter()
        ends = run(steps, store, executor, Unwatched(), estimates)
        passed = time.perf_counter() - began
        used, own, busy = cpu_seconds() - used, time.process_time() - own, psutil.cpu_percent()
    beside = sum(ends[key].seconds - graph.seconds(one) for key, one in steps.items())
    count = len(steps)
    print(f"  {count} steps in {passed:.1f} s, bound {bound.seconds:.1f} s: {bound}")
    print(
        f"  the farm and Ray: {used / count * 1e3:.0f} ms of CPU a step, of these the driver "
        f"{own / count * 1e3:.1f}; {used / passed / cores():.0%} of {cores()} real cores, all "
        f"programs {busy:.0f}%; {beside / count * 1e3:.0f} ms on a node beside its sleep"
    )
    yield Figure(f"a sweep of {count} steps over its bound", passed / bound.seconds, 1.05)


def order(_: SimulatedNodes, __: S3Server, options: argparse.Namespace) -> Iterator[Figure]:
    import virtual_nodes  # here: Ray reads its variables when it is imported

    for models in sorted({max(1, options.models // 2), options.models}):
        steps = graph.sweep(models)
        for known in (True, False):
            seconds = virtual_nodes.seconds_of(steps, options.cores, known=known)
            ratio = seconds / graph.bound(steps, options.cores).seconds
            after = "" if known else ", nothing known before"
            yield Figure(
                f"{len(steps)} steps by a virtual clock over their bound{after}", ratio, 1.05
            )


def many_nodes(_: SimulatedNodes, __: S3Server, options: argparse.Namespace) -> Iterator[Figure]:
    import virtual_nodes

    gpus = [*graph.TARGETS]
    nodes = {f"n{number}": gpus[number % len(gpus)] for number in range(options.nodes)}
    steps, began = graph.sweep(options.nodes), time.process_time()
    virtual_nodes.seconds_of(steps, NODE_CORES, nodes)
    used = (time.process_time() - began) / len(steps) * 1e3
    yield Figure(f"driver's CPU a step, on {options.nodes} nodes", used, 1, "ms")


def add_all(nodes: SimulatedNodes, cores: int) -> None:
    for name, gpu in graph.NODES.items():
        nodes.add(name, cores, gpu)


def warm_up(cores: int, seconds: float) -> dict[str, Step]:
    """Steps that start a process for each core and GPU, of a stage that the sweep does not have."""
    gpus = [step("convert", f"warm.{one.name}", 0.2, (), one) for one in graph.TARGETS.values()]
    cpus = [step("convert", f"warm{n}", seconds) for n in range(cores * len(graph.NODES))]
    return {one.key: one for one in (*gpus, *cpus)}


def store(nodes: SimulatedNodes, server: S3Server, options: argparse.Namespace) -> Iterator[Figure]:
    add_all(nodes, options.cores)
    yield from cluster_store.store_figures(nodes, server, options.steps, options.cores * 4)


PARTS: dict[str, Callable[[SimulatedNodes, S3Server, argparse.Namespace], Iterator[Figure]]] = {
    "order": order,
    "nodes": many_nodes,
    "joins": joins,
    "schedule": schedule,
    "store": store,
}

if __name__ == "__main__":
    sys.exit(main())
