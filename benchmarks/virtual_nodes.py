"""The farm's own scheduling on nodes that are not there, by a clock that is only counted.

`run_steps` gives the steps their order and `Places` their nodes, as in a sweep under Ray. Ray and
the steps' processes take no time here, so the result is what the order alone costs.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cluster_graph as graph

from farm.engine.cluster.reports import Node
from farm.engine.estimates import Estimates
from farm.engine.scheduler import Unwatched, run_steps
from farm.plan import Step
from farm.plan.machines.placement import Machine
from farm.store import Store

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from engine.simulated import Cluster


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
    there = tuple(_node(name, gpu, cores) for name, gpu in nodes.items())
    cluster = Cluster(there, {key: graph.seconds(one) for key, one in steps.items()})
    with tempfile.TemporaryDirectory() as folder:
        run_steps(steps, Store(folder), lambda: cluster, Unwatched(), estimates=estimates)
    return cluster.now


def _node(name: str, gpu: str | None, cores: int) -> Node:
    kinds = (gpu,) if gpu else ()
    return Node(name, Machine(name, graph.CPU.device, {}, (), kinds, len(kinds), cores))
