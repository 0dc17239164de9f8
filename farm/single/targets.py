"""What an engine is built with and for: a runtime, and this machine or a GPU elsewhere."""

from __future__ import annotations

from farm.catalog import RUNTIMES
from farm.errors import InputError, nearest
from farm.plan import placement
from farm.plan.packages import version
from farm.plan.placement import cpu_model
from farm.runtimes import Runtime
from farm.specs import Target


def require_runtime(name: str, option: str = "") -> Runtime:
    """Return the descriptor of a runtime that builds engines. option: the one that named it.

    Raises:
        InputError: there is no such runtime, it builds no engines, or it is not installed.
    """
    runtime = RUNTIMES.get(name)
    if runtime is None or not runtime.exported:
        what = f"{name} builds no engine" if runtime else f"this farm has no runtime {name}"
        there = ", ".join(one for one, known in RUNTIMES.items() if known.exported)
        raise InputError(f"{what}; there are: {there}", option)
    if absent := [package for package in runtime.packages if version(package) == "absent"]:
        raise InputError(
            f"{name} needs {', '.join(absent)}, not installed; `farm doctor` says how to get it",
            option,
        )
    return runtime


def this_machine(runtime: str) -> Target:
    """Return the target that is this machine's CPU, or its GPU for runtimes of accelerators.

    Raises:
        InputError: the runtime needs a GPU, and there is none.
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
    """Return the target that is any GPU of this compute capability.

    Raises:
        InputError: the runtime builds only on the machine itself, or not for these GPUs.
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
