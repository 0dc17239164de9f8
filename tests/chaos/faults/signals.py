"""The driver is killed or interrupted."""

from __future__ import annotations

import signal
import time
from functools import partial

from chaos.faults.fault import Fault
from chaos.scene import Scene

INTERRUPTED = frozenset({130, -signal.SIGINT, -signal.SIGTERM})
"""Exit codes: until Python has started, the kernel ends a process by the signal itself."""


def send(number: signal.Signals, scene: Scene) -> str:
    """Send a signal to the driver."""
    driver = scene.driver
    driver.send(number)
    return f"{number.name} to driver {driver.process.pid}"


def interrupt_twice(scene: Scene) -> str:
    """Press Ctrl-C twice."""
    driver, pause = scene.driver, scene.rng.uniform(0.01, 1)
    driver.send(signal.SIGINT)
    time.sleep(pause)
    if driver.running:
        driver.send(signal.SIGINT)
    return f"SIGINT to driver {driver.process.pid}, and again after {pause:.2f} s"


FAULTS = (
    Fault(
        "driver-killed", "signal", partial(send, signal.SIGKILL),
        ends=frozenset({-signal.SIGKILL}), undone=True,
    ),
    Fault("sigint", "signal", partial(send, signal.SIGINT), ends=INTERRUPTED, undone=True),
    Fault("sigterm", "signal", partial(send, signal.SIGTERM), ends=INTERRUPTED, undone=True),
    Fault("sigint-twice", "signal", interrupt_twice, ends=INTERRUPTED, undone=True),
)  # fmt: skip
