"""What `farm doctor` looks for: the machine, its GPUs, and packages, each used a little."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from farm.catalog import RUNTIMES
from farm.plan.machines.placement import cores, cpu_model
from farm.runtimes.base import Finding, Runtime, install_extra, installed

HOW = {
    "torch": install_extra("mmdet"),
    "mmcv-full": "make setup (it builds mmcv-full against this torch)",
    "mmdet": install_extra("mmdet"),
    "onnx": install_extra("mmdet"),
    "onnxslim": f"{install_extra('mmdet')} (for `simplify: true` only)",
    "cuda-python": "pip install cuda-python -c constraints.txt (for NVIDIA GPUs only)",
    "NVIDIA GPU": "install NVIDIA's driver, if there is a GPU (for tensorrt and tensorrt_rtx only)",
    "ray": "pip install -e . -c constraints.txt",
    "mlflow": "pip install -e . -c constraints.txt",
}

SWEEP_DISK_GB = 5


def how(name: str) -> str:
    """Return the command that gets a library or a runtime; '' where none is known.

    Raises:
        InputError: another package's entry point for a runtime is broken.
    """
    return RUNTIMES[name].install if name in RUNTIMES and name not in HOW else HOW.get(name, "")


def gpus() -> Finding:
    """Return the NVIDIA GPUs of this machine."""
    from farm.runtimes.tensorrt import cuda

    try:
        cuda.bindings()
    except cuda.CudaError:
        lacks = "not known: cuda-python, which finds it, is not installed"
        return Finding("NVIDIA GPU", "missing", lacks, HOW["cuda-python"])
    try:
        found = cuda.gpus()
    except cuda.CudaError as error:
        return Finding("NVIDIA GPU", "missing", str(error), HOW["NVIDIA GPU"])
    names = (f"{one}, {one.memory_bytes / 2**30:.0f} GiB" for one in found)
    return Finding("NVIDIA GPU", "ok", "; ".join(names))


def _patch_mmcv() -> None:
    """Fit mmcv and mmdet to this environment, which has to be done before they are imported."""
    from farm.sources.mmdet import compat  # noqa: F401


def _torch() -> Finding:
    import torch

    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    return Finding("torch", "ok", f"{torch.__version__}, {build}")


def _mmcv() -> Finding:
    _patch_mmcv()
    import torch
    from mmcv.ops import nms

    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]])
    kept, _ = nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    if len(kept) != 2:
        return Finding(
            "mmcv-full", "missing", "its compiled NMS gives wrong boxes", HOW["mmcv-full"]
        )
    return Finding("mmcv-full", "ok", f"{version('mmcv-full')}, compiled operators work")


def _mmdet() -> Finding:
    _patch_mmcv()
    return Finding("mmdet", "ok", version("mmdet"))


def _onnx() -> Finding:
    import onnx

    return Finding("onnx", "ok", onnx.__version__)


def _onnxslim() -> Finding:
    import onnxslim  # noqa: F401

    return Finding("onnxslim", "ok", f"{version('onnxslim')} (for `simplify: true` only)")


def _ray() -> Finding:
    return Finding("ray", "ok", version("ray"))


def _mlflow() -> Finding:
    return Finding("mlflow", "ok", version("mlflow"))


_BEFORE: dict[str, Callable[[], Finding]] = {
    "torch": _torch,
    "mmcv-full": _mmcv,
    "mmdet": _mmdet,
    "onnx": _onnx,
    "onnxslim": _onnxslim,
}

_AFTER: dict[str, Callable[[], Finding]] = {
    "NVIDIA GPU": gpus,
    "ray": _ray,
    "mlflow": _mlflow,
}


def probes() -> dict[str, Callable[[], Finding]]:
    """Return all probes by name, in the order of the report: the runtimes' own among them.

    Raises:
        InputError: another package's entry point for a runtime is broken.
    """
    runtimes = {name: one.probe or partial(_packages, one) for name, one in _probed().items()}
    return {**_BEFORE, **runtimes, **_AFTER}


def cpu_runtimes() -> set[str]:
    """Return the runtimes that `farm doctor` looks for and that run engines on a CPU.

    Raises:
        InputError: as `probes`.
    """
    return {name for name, one in _probed().items() if not one.accelerators}


def _probed() -> dict[str, Runtime]:
    """Return the runtimes with a probe, or a command that gets them: others share a library with
    one of these, or need none."""
    return {name: one for name, one in RUNTIMES.items() if one.probe or one.install}


def _packages(runtime: Runtime) -> Finding:
    """Probe a runtime that has no probe of its own: look for its packages."""
    if absent := [package for package in runtime.packages if not installed(package)]:
        text = f"not installed: {', '.join(absent)}"
        return Finding(runtime.name, "missing", text, runtime.install)
    text = ", ".join(f"{package} {version(package)}" for package in runtime.packages)
    return Finding(runtime.name, "ok", text)


def python() -> Finding:
    """Return which Python runs."""
    return Finding("Python", "ok", f"{platform.python_version()} ({sys.executable})")


def cpu() -> Finding:
    """Return the processor, as plans name it: a target's `device` is written like this."""
    return Finding("CPU", "ok", f"{cpu_model()}, {cores()} cores for this process")


def memory() -> Finding:
    """Return how much memory there is."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Finding("memory", "ok", f"{total / 2**30:.1f} GiB")


def disk(results: Path) -> Finding:
    """Return the free space where the results go, or at the nearest folder that exists."""
    wanted = results.absolute()
    there = next(folder for folder in (wanted, *wanted.parents) if folder.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    found = f"{free:.0f} GB free for {wanted}"
    if free < SWEEP_DISK_GB:
        return Finding("disk", "warning", found, "make room, or name another results folder")
    return Finding("disk", "ok", found)


def compiler() -> Finding:
    """Return the C++ compiler that mmcv-full is built with."""
    if path := shutil.which(os.environ.get("CXX") or "g++"):
        return Finding("g++", "ok", path)
    return Finding("g++", "warning", "not found; mmcv-full is built with it", "apt-get install g++")
