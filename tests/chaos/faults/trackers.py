"""MLflow's server is slow, or away."""

from __future__ import annotations

from chaos.faults.fault import Fault
from chaos.scene import NoTarget, Scene


def slow(scene: Scene) -> str:
    """Let each call take a second."""
    if scene.tracker is None or scene.tracker.pause_s:
        raise NoTarget("no tracker that is not slow")
    scene.tracker.pause_s = 1.0
    scene.undo.callback(scene.tracker.well)
    return "each call of MLflow takes a second"


def away(scene: Scene) -> str:
    """Let no call be answered, for a while or until the run has ended."""
    if scene.tracker is None or scene.tracker.away:
        raise NoTarget("no tracker that is there")
    scene.tracker.away = True
    seconds = scene.rng.choice([scene.rng.uniform(1, 5), 600.0])
    scene.after(seconds, scene.tracker.well)
    return f"MLflow is away {'' if seconds == 600 else f'for {seconds:.1f} s'}"


FAULTS = (
    Fault("tracker-slow", "tracker", slow, repeats=0, tracker=True),
    Fault("tracker-away", "tracker", away, repeats=0, tracker=True),
)
