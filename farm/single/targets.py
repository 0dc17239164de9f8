"""The target that an engine is built for: this machine, or a GPU that is elsewhere."""

from __future__ import annotations

from farm.catalog import RUNTIMES
from farm.errors import InputError, nearest
from farm.plan import placement
from farm.plan.placement import cpu_model
from farm.specs import Target


def this_machine(runtime: str) -> Target:
    """Its CPU, or for runtimes of accelerators its GPU, as a sweep's target would name it.

    Raises:
        InputError: there is no such device.
    """
    if not RUNTIMES[runtime].accelerators:
        return Target("cpu", cpu_model())
    if not placement.gpus():
        ahead = RUNTIMES[runtime].compute_capabilities
        hint = f"; say which it is for: --compute-capability {ahead[-1]}" if ahead else ""
        raise InputError(f"{runtime} needs a GPU, and nvidia-smi finds none here{hint}")
    gpu = placement.gpus()[0]
    kind = placement.accelerator(gpu.name)
    return placement.target(kind.lower(), kind, None, gpu.compute_capability, gpu.driver)


def elsewhere(runtime: str, capability: str) -> Target:
    """Any GPU of this compute capability, for a runtime that builds without one.

    Raises:
        InputError: it does not, or not for these GPUs.
    """
    known = RUNTIMES[runtime].compute_capabilities
    if not known:
        reason = f"{runtime} builds on the machine that runs it, for that one"
        raise InputError(f"{reason}; leave it out", "--compute-capability")
    if capability not in known:
        reason = f"{capability!r}: {runtime} builds for {', '.join(known)}"
        raise InputError(f"{reason}{nearest(capability, known)}", "--compute-capability")
    kind = f"SM{capability.replace('.', '')}"
    return Target(kind.lower(), f"compute capability {capability}", kind, capability)
