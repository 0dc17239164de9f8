"""The Python packages that every sweep needs: each is used a little, to see that it works."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from farm.catalog import RUNTIMES
from farm.doctor import gpus
from farm.doctor.how import HOW
from farm.findings import Finding, installed
from farm.runtimes.base import Runtime


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
    "NVIDIA GPU": gpus.gpu,
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
