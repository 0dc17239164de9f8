"""The machine that accepts: its GPU as a target, and what else it can run."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from farm.catalog import RUNTIMES
from farm.errors import FarmError, InputError, nearest
from farm.plan.packages import version
from farm.plan.placement import accelerator, cpu_model
from farm.runtimes.tensorrt import cuda
from farm.specs import Target

ORT_CUDA = "onnxruntime_cuda"
"""ONNX Runtime's CUDA provider: cells for it are added to those of a pack."""


class NoGpu(FarmError):
    """There is no GPU to accept: exit code 3."""


def gpu() -> cuda.Gpu:
    """The first GPU, by the CUDA driver. Raises NoGpu."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise NoGpu("no GPU: the CUDA driver (libcuda.so.1) is not installed") from None
    if importlib.util.find_spec("cuda") is None:
        raise InputError("cuda-python is not installed for this Python", sys.executable)
    try:
        return cuda.gpus()[0]
    except cuda.CudaError as error:
        raise NoGpu(str(error)) from None


def gpu_target(found: cuda.Gpu, known: Sequence[Target], asked: str | None) -> Target:
    """The matrix's target for this GPU, the one asked for, or a new one named as the GPU is; of
    the driver that is here."""
    kind = accelerator(found.name)
    named = {target.name: target for target in known if target.accelerator}
    if asked is not None and asked not in named:
        raise InputError(f"no target {asked!r}{nearest(asked, named)}", "--target")
    fitting = [one for one in named.values() if one.accelerator == kind]
    of_kind = named[asked] if asked else next(iter(fitting), _new(kind))
    return replace(of_kind, compute_capability=found.compute_capability, driver=found.branch)


def _new(kind: str) -> Target:
    return Target(re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-"), kind, kind)


def cpu_target() -> Target:
    return Target("cpu", cpu_model())


def told(target: Target, runtimes: Sequence[str], found: cuda.Gpu | None) -> dict[str, Any]:
    """The machine in a few words, for the line of JSON."""
    packages = {name: version(name) for one in runtimes for name in RUNTIMES[one].packages}
    gpu_words = (
        {"gpu": found.name, "compute": found.compute_capability, "driver": found.driver}
        if found
        else {"device": target.device}
    )
    if found:
        packages["cuda-bindings"] = version("cuda-bindings")
    versions = {"python": platform.python_version(), "numpy": version("numpy"), **packages}
    return {"target": target.name, **gpu_words, "versions": versions}


def ort_cuda_missing() -> str | None:
    """Why ONNX Runtime's CUDA provider is left out here; None where it can run."""
    absent = [name for name in RUNTIMES[ORT_CUDA].packages if version(name) == "absent"]
    if absent:
        return f"{', '.join(absent)} is not installed, under that name, for this Python"
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in providers:
        return f"this onnxruntime has no CUDAExecutionProvider ({', '.join(providers)})"
    return None
