"""This machine as the target that an engine is built for."""

from __future__ import annotations

from farm.catalog import RUNTIMES
from farm.errors import InputError
from farm.inputs import Target
from farm.plan import gpus
from farm.plan.devices import cpu_model


def this_machine(runtime: str) -> Target:
    """Its CPU, or for runtimes of accelerators its GPU, as a sweep's target would name it.

    Raises:
        InputError: there is no such device.
    """
    if not RUNTIMES[runtime].accelerators:
        return Target("cpu", cpu_model())
    if not gpus.gpus():
        raise InputError("this runtime needs a GPU, and nvidia-smi finds none here")
    gpu = gpus.gpus()[0]
    kind = gpus.accelerator(gpu.name)
    return gpus.target(kind.lower(), kind, None, gpu.compute_capability, gpu.driver)
