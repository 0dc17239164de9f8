"""What this machine can run: its runtimes, its GPU, and the precisions that pay here."""

from __future__ import annotations

from dataclasses import dataclass

from farm import doctor
from farm.catalog import PRECISIONS, RUNTIMES
from farm.doctor.checks import cpu_runtimes
from farm.plan.machines import placement
from farm.runtimes.base import Finding, installed

_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""Instruction sets by which a CPU computes in bf16, as `placement.cpu_model` names them."""


@dataclass(frozen=True)
class Here:
    """runtimes: that run models here, `torch` first. missing: others that would run on this CPU,
    each with the command that installs it. accelerator: Ray's name of the GPU; None without one.
    precisions: fp32, and those that this machine computes in faster."""

    runtimes: tuple[str, ...]
    missing: tuple[Finding, ...]
    accelerator: str | None
    precisions: tuple[str, ...]


def look() -> Here:
    """Return what this machine can run. Each library is tried in a process of its own.

    Raises:
        InputError: another package's entry point for a runtime is broken.
    """
    on_cpu = [name for name in RUNTIMES if name in cpu_runtimes()]
    found = doctor.tried(on_cpu)
    works = [one.name for one in found if one.status != "missing"]
    gpu = next(iter(placement.gpus()), None)
    on_gpu = [name for name, one in RUNTIMES.items() if gpu and one.accelerators and _there(name)]
    runtimes = ("torch", *works, *on_gpu)
    missing = tuple(one for one in found if one.status == "missing")
    accelerator = placement.accelerator(gpu.name) if gpu and on_gpu else None
    return Here(runtimes, missing, accelerator, _precisions(runtimes, accelerator))


def _there(name: str) -> bool:
    return all(map(installed, RUNTIMES[name].packages))


def _precisions(runtimes: tuple[str, ...], accelerator: str | None) -> tuple[str, ...]:
    """Of lower precisions, fp16 for a GPU, and bf16 for OpenVINO on a CPU that has it."""
    sets = placement.cpu_model().rpartition("(")[2].rstrip(")").split()
    fast = {"fp32"}
    if accelerator:
        fast.add("fp16")
    if "openvino" in runtimes and any(one in sets for one in _BF16):
        fast.add("bf16")
    can = {precision for name in runtimes for precision in RUNTIMES[name].precisions}
    return tuple(one for one in PRECISIONS if one in fast & can)
