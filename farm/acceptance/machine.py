"""The machine that accepts: its GPU as a target, and what else it can run."""

from __future__ import annotations

import importlib.util
import platform
import re
from collections.abc import Sequence
from typing import Any

from farm.catalog import RUNTIMES
from farm.errors import FarmError, InputError, nearest
from farm.gpus import Gpu, gpus
from farm.inputs import Target
from farm.plan.devices import cpu_model
from farm.plan.keys import version

ORT_CUDA = "onnxruntime_cuda"
"""ONNX Runtime's CUDA provider, where the farm has it as a runtime."""


class NoGpu(FarmError):
    """There is no GPU to accept: exit code 3."""


def gpu() -> Gpu:
    """The first GPU, by the CUDA driver. Raises NoGpu."""
    found, reason = gpus()
    if not found:
        raise NoGpu(f"no GPU: {reason}")
    return found[0]


def gpu_target(found: Gpu, known: Sequence[Target], asked: str | None) -> Target:
    """The matrix's target for this GPU, the one asked for, or a new one named as the GPU is."""
    of_gpus = [target for target in known if target.accelerator]
    if asked is not None:
        names = {target.name: target for target in of_gpus}
        if asked not in names:
            raise InputError(f"no target {asked!r}{nearest(asked, names)}", "--target")
        return names[asked]
    for target in of_gpus:
        if (target.accelerator or "").lower() in found.name.lower():
            return target
    name = re.sub(r"[^a-z0-9]+", "-", found.name.lower()).strip("-")
    return Target(name, found.name, found.name)


def cpu_target() -> Target:
    return Target("cpu", cpu_model())


def told(target: Target, runtimes: Sequence[str], found: Gpu | None) -> dict[str, Any]:
    """The machine in a few words, for the line of JSON."""
    packages = {name: version(name) for one in runtimes for name in RUNTIMES[one].packages}
    gpu_words = {"gpu": found.name, "compute": found.compute, "driver": found.driver,
                 "cuda": found.cuda} if found else {"device": target.device}  # fmt: skip
    versions = {"python": platform.python_version(), "numpy": version("numpy"), **packages}
    return {"target": target.name, **gpu_words, "versions": versions}


def ort_cuda_missing() -> str | None:
    """Why ONNX Runtime's CUDA provider is left out here; None where it can run."""
    if ORT_CUDA not in RUNTIMES:
        return f"this farm has no runtime {ORT_CUDA}"
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed"
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in providers:
        return f"this onnxruntime has no CUDAExecutionProvider ({', '.join(providers)})"
    return None
