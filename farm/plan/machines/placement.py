"""Where steps may run: processors, cores and GPUs as plans name them, and why not there."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from farm.errors import InputError, nearest
from farm.plan.machines.processors import kind_of
from farm.specs import Gpu, Target

if TYPE_CHECKING:
    from farm.plan.steps import Step

COMPUTE_CAPABILITIES = {
    "K80": "3.7", "P100": "6.0", "P4": "6.1", "V100": "7.0", "T4": "7.5", "A100": "8.0",
    "A30": "8.0", "A10": "8.6", "A10G": "8.6", "A40": "8.6", "GeForce-RTX-3090": "8.6",
    "L4": "8.9", "L40": "8.9", "L40S": "8.9", "GeForce-RTX-4090": "8.9", "H20": "9.0",
    "H100": "9.0", "H200": "9.0", "B200": "10.0", "B300": "10.3", "RTX-PRO-6000": "12.0",
    "GeForce-RTX-5090": "12.0", "RTX-A6000": "8.6",
}  # fmt: skip
"""Of accelerators as Ray names them: developer.nvidia.com/cuda-gpus."""


@cache
def cpu_model() -> str:
    """Return the kind of this machine's processor, as `processors.kind_of` writes it."""
    with suppress(OSError):
        if kind := kind_of(Path("/proc/cpuinfo").read_text(errors="replace")):
            return kind
    return platform.processor() or platform.machine()


@cache
def cores() -> int:
    """Return how many cores this process may use, by its affinity and the quota of cgroup v2."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


@dataclass(frozen=True)
class Machine:
    """A machine that steps may run on, as far as it is known; the defaults exclude nothing.

    device: its processor. accelerators: the kinds of its GPUs, as Ray names them; None where they
    are not known. gpu_count: how many Ray can assign; `gpus`: those that were found, () where they
    were not looked for. memory_bytes: what Ray can assign to tasks. versions: of the packages that
    the plan's steps need. environment: the digest of the one that has these versions; '' for the
    farm's own. no_store: why it does not see the store, if so.
    """

    host: str
    device: str
    versions: Mapping[str, str]
    gpus: tuple[Gpu, ...] = ()
    accelerators: tuple[str, ...] | None = None
    gpu_count: float = math.inf
    cpus: float = math.inf
    memory_bytes: float = math.inf
    no_store: str = ""
    environment: str = ""

    @property
    def gpu_memory_bytes(self) -> int:
        """Return the memory of the GPU that has the least; 0 where that is not known."""
        return min((gpu.memory_bytes for gpu in self.gpus), default=0)


_MODEL = re.compile(r"\w+\s+((?:[A-Z]+\s+)*[A-Z0-9]*\d[A-Z0-9]*)")


def accelerator(name: str) -> str:
    """Return Ray's name of a GPU.

    It is made of the capitalised parts after the maker's name, up to the first with a digit; of all
    parts where they are not in capitals.

    `NVIDIA H200` is `H200`, `Tesla V100-SXM2-16GB` is `V100`, `NVIDIA RTX A6000` is `RTX-A6000`,
    `NVIDIA GeForce RTX 4090` is `GeForce-RTX-4090`.
    """
    model = _MODEL.match(name)
    parts = model[1] if model and len(model[1]) > 1 else re.sub(r"^NVIDIA\s+", "", name).strip()
    return parts.replace(" ", "-") or name


@cache
def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs of this machine as nvidia-smi lists them; none where it is not installed.

    CUDA is not used: a process that has asked it sees the same GPUs for good, and Ray's workers
    change which they are.
    """
    query = "--query-gpu=name,compute_cap,driver_version,memory.total,mig.mode.current"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return tuple(_gpu(*line.split(", ")) for line in found.stdout.splitlines())
    except (OSError, subprocess.SubprocessError, TypeError):
        return ()


_MEMORY = re.compile(r"(\d+) MiB")


def _gpu(name: str, capability: str, driver: str, memory: str = "", mig: str = "") -> Gpu:
    """A GPU by its line. Of one that is cut into MIG instances their memory is not known."""
    found = _MEMORY.fullmatch(memory) if mig != "Enabled" else None
    return Gpu(name, capability, driver, int(found[1]) << 20 if found else 0)


def target(
    name: str,
    kind: str,
    device: str | None = None,
    compute_capability: str | None = None,
    driver: str | None = None,
) -> Target:
    """Return the target of accelerator `kind`; what is None is taken from this machine's GPU.

    All of it decides which engine is built, and is in its key.

    Raises:
        InputError: the compute capability or the driver is neither given nor known.
    """
    here = next((gpu for gpu in gpus() if _is(gpu, kind, device)), None)
    capability = compute_capability or COMPUTE_CAPABILITIES.get(kind)
    capability = capability or (here.compute_capability if here else None)
    if capability is None:
        hint = nearest(kind, COMPUTE_CAPABILITIES)
        raise InputError(
            f"the compute capability of accelerator {kind!r} is not known{hint} "
            "(or say it: `compute_capability: 8.9`)"
        )
    branch = (driver or (here.driver if here else "")).partition(".")[0]
    if not branch:
        raise InputError(
            f"the driver of target {name!r} is not known: this machine has no {kind} to ask. Say "
            "its branch, as nvidia-smi on its nodes shows it: `driver: 580`"
        )
    return Target(name, device or kind, kind, capability, branch)


def stands_for(wanted: Target, gpu: Gpu) -> bool:
    """Return whether the GPU is what the target stands for."""
    return (
        _is(gpu, wanted.accelerator or "", _exact(wanted))
        and gpu.compute_capability == wanted.compute_capability
        and gpu.branch == wanted.driver
    )


def _exact(wanted: Target) -> str | None:
    return wanted.device if wanted.device != wanted.accelerator else None


def _is(gpu: Gpu, kind: str, device: str | None) -> bool:
    return gpu.name == device if device else accelerator(gpu.name) == kind


def step_unsupported(step: Step, machine: Machine) -> str | None:
    """Return why this machine cannot do the step as it was planned.

    The key of a step names versions of packages and a processor or a GPU.
    """
    return (
        accelerator_unsupported(step, machine)
        or _room_unsupported(step, machine)
        or _versions_unsupported(step, machine)
        or _target_unsupported(step, machine)
    )


def accelerator_unsupported(step: Step, machine: Machine) -> str | None:
    """Return why the machine lacks the kind of GPU that the step needs."""
    wanted, there = step.needs.accelerator, machine.accelerators
    if not wanted or there is None or wanted in there:
        return None
    return f"node {machine.host} has {', '.join(there) or 'no accelerator'}"


def _room_unsupported(step: Step, machine: Machine) -> str | None:
    if step.needs.accelerator and machine.gpu_count < 1:
        return f"node {machine.host} gives Ray no GPU (`ray start --num-gpus`)"
    if machine.cpus < step.needs.cpus:
        return f"node {machine.host} has {machine.cpus:g} CPUs"
    if machine.no_store:
        return f"node {machine.host} does not see the store: {machine.no_store}"
    return None


def _versions_unsupported(step: Step, machine: Machine) -> str | None:
    if (step.environment.digest if step.environment else "") != machine.environment:
        return None  # the step's own process compares them, in its environment
    if step.environment and step.environment.image:
        return None
    for name, planned in step.toolchain:
        if (here := machine.versions.get(name)) != planned:
            return (
                f"node {machine.host} has {name} {here}, the plan was made with {planned}: "
                "install the same version on both"
            )
    return None


def _target_unsupported(step: Step, machine: Machine) -> str | None:
    target = getattr(step.inputs, "target", None)
    if target is None:
        return None
    if not target.accelerator and target.device != machine.device:
        return (
            f"node {machine.host} is {machine.device}, target {target.name} is {target.device}: "
            "name the processor as `device` of a target of its own"
        )
    if step.needs.accelerator and machine.gpus:
        reasons = [gpu_unsupported(target, gpu) for gpu in machine.gpus]
        if None not in reasons:
            return f"node {machine.host} {reasons[0]}: give these to a target of its own"
    return None


def gpu_unsupported(target: Target, gpu: Gpu) -> str | None:
    """Return why the GPU is not what the target stands for."""
    if stands_for(target, gpu):
        return None
    return (
        f"has {gpu}, and target {target.name} is {target.device} ({target.compute_capability}, "
        f"driver {target.driver})"
    )
