"""Another sweep at the same time on the same results folder."""

from __future__ import annotations

from chaos.faults.fault import Fault
from chaos.scene import NoTarget, Scene
from chaos.sweeps import NAME, OTHER


def beside(scene: Scene) -> str:
    """Run another sweep of the same cells."""
    if any(one.sweep == OTHER and one.running for one in scene.drivers):
        raise NoTarget("it runs")
    return f"sweep {OTHER} of the same cells, driver {scene.begin(sweep=OTHER).process.pid}"


def again(scene: Scene) -> str:
    """Run the sweep a second time, which is refused."""
    first = scene.driver
    second = scene.begin(sweep=NAME)
    scene.drivers.remove(second)
    code = second.process.wait(120)
    if first.running and (code != 2 or "already running" not in second.text):
        raise AssertionError(f"a second run of the sweep ended with {code}: {second.text[-1000:]}")
    return f"the sweep a second time, which ended with {code}"


FAULTS = (
    Fault("sweep-beside", "sweep", beside, repeats=0, lasts=True),
    Fault("sweep-twice", "sweep", again, repeats=0),
)
