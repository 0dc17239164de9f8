"""A step's own code does harm; see `chaos.faulty`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from chaos.faults.fault import Fault
from chaos.faulty import TRIGGERS
from chaos.scene import NoTarget, Scene


def arm(act: str, scene: Scene) -> str:
    """Let the code of the next step that runs a faulty engine do it, once."""
    trigger = Path(scene.cluster.variables[TRIGGERS]) / act
    if trigger.exists():
        raise NoTarget(f"{act} is asked for")
    trigger.touch()
    scene.undo.callback(trigger.unlink, missing_ok=True)
    return f"the next step of a faulty engine will {act}"


FAULTS = (
    Fault("step-crashes", "code", partial(arm, "crash"), lasts=True),
    # What reaches a limit has failed, and is recorded.
    Fault("step-hangs", "code", partial(arm, "hang"), undone=True, lasts=True),
    Fault("step-uses-memory", "code", partial(arm, "memory"), lasts=True),
)
