"""A node is lost, stands still, or joins."""

from __future__ import annotations

import signal

from chaos.cluster import HEAD, LATE, WORKERS
from chaos.faults.fault import Fault
from chaos.processes import Kind
from chaos.scene import NoTarget, Scene


def kill_raylet(scene: Scene) -> str:
    """Kill a raylet, with which Ray's workers of its node end."""
    process = scene.process(Kind.RAYLET, nodes=WORKERS)
    if not scene.cluster.processes.send(process, signal.SIGKILL):
        raise NoTarget(f"{process} has ended")
    return f"killed {process}"


def kill_node(scene: Scene) -> str:
    """Kill everything that runs on a node, as a machine that is switched off."""
    node = scene.process(Kind.RAYLET, nodes=WORKERS).node
    return f"killed the {scene.cluster.processes.kill_all(node)} processes of node {node}"


def freeze(scene: Scene) -> str:
    """Stop everything on a node; for seconds, or for longer than Ray waits for it."""
    node = scene.process(Kind.RAYLET, nodes=WORKERS).node
    seconds = scene.rng.choice([scene.rng.uniform(1, 4), scene.rng.uniform(15, 25)])
    processes = scene.cluster.processes
    stopped = [one for one in processes.find(node) if processes.send(one, signal.SIGSTOP)]

    def thaw() -> None:
        for one in processes.find(node):
            processes.send(one, signal.SIGCONT)

    scene.after(seconds, thaw)
    return f"froze the {len(stopped)} processes of node {node} for {seconds:.1f} s"


def kill_head(scene: Scene) -> str:
    """Kill Ray's central process."""
    process = scene.process(Kind.GCS)
    scene.cluster.processes.send(process, signal.SIGKILL)
    return f"killed {process}"


def kill_heads_raylet(scene: Scene) -> str:
    """Kill the raylet that the driver itself is connected to."""
    process = scene.process(Kind.RAYLET, nodes=(HEAD,))
    scene.cluster.processes.send(process, signal.SIGKILL)
    return f"killed {process}, which the driver uses"


def join(scene: Scene) -> str:
    """Let another node join."""
    if scene.cluster.processes.find(LATE):
        raise NoTarget(f"node {LATE} is there")
    scene.undo.callback(scene.cluster.begin(LATE).wait)
    return f"node {LATE} joins"


LOST_RAY = frozenset({1})
"""The exit code where the cluster itself is gone."""

FAULTS = (
    Fault("raylet-killed", "node", kill_raylet),
    Fault("node-killed", "node", kill_node),
    Fault("node-frozen", "node", freeze, lasts=True),
    Fault("head-killed", "node", kill_head, ends=LOST_RAY, undone=True, lasts=True),
    Fault(
        "drivers-raylet-killed", "node", kill_heads_raylet, ends=LOST_RAY, undone=True, lasts=True
    ),
    Fault("node-joins", "node", join, repeats=0),
)
