"""The service in which the results lie is slow, overloaded, or cuts connections."""

from __future__ import annotations

from functools import partial

from chaos.faults.fault import Fault
from chaos.scene import NoTarget, Scene

_SLOW_S = 1.0


def fail(faults: tuple[str, ...], share: float, scene: Scene) -> str:
    """Let the service fail in one of these ways at a share of its requests, for some seconds."""
    service = scene.service
    if service is None or service.ill:
        raise NoTarget("the results lie in no service that is well")
    if "submitted" not in scene.driver.text:  # a command ends at once where it cannot reach it
        raise NoTarget("no step has begun")
    seconds = scene.rng.uniform(2, 10)
    service.fail(faults, share, scene.rng, _SLOW_S)
    scene.after(seconds, service.well)
    return f"{share:.0%} of the requests to S3: {' or '.join(faults)}, for {seconds:.1f} s"


FAULTS = (
    Fault("s3-cut", "service", partial(fail, ("cut", "lost"), 0.5), repeats=0, service=True),
    Fault("s3-503", "service", partial(fail, ("503",), 1.0), repeats=0, service=True),
    Fault("s3-slow", "service", partial(fail, ("slow",), 1.0), repeats=0, service=True),
)
