"""One process of a sweep's steps is killed."""

from __future__ import annotations

import signal
from functools import partial

from chaos.faults.fault import Fault
from chaos.processes import Kind
from chaos.scene import NoTarget, Scene


def kill(kind: Kind, scene: Scene) -> str:
    """Kill a process of this kind."""
    process = scene.process(kind)
    if not scene.cluster.processes.send(process, signal.SIGKILL):
        raise NoTarget(f"{process} has ended")
    return f"killed {process}"


FAULTS = (
    Fault("worker-killed", "process", partial(kill, Kind.WORKER)),
    Fault("fork-server-killed", "process", partial(kill, Kind.FORK_SERVER)),
    Fault("step-killed", "process", partial(kill, Kind.STEP)),
)
