"""The Python packages that every sweep needs: each is used a little, to see that it works."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import version

from farm.catalog import RUNTIMES
from farm.doctor import gpus
from farm.doctor.how import HOW
from farm.findings import Finding


def _torch() -> Finding:
    import torch

    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    return Finding("torch", "ok", f"{torch.__version__}, {build}")


def _mmcv() -> Finding:
    importlib.import_module("farm.sources.mmdet.compat")
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
    importlib.import_module("farm.sources.mmdet.compat")
    return Finding("mmdet", "ok", version("mmdet"))


def _onnx() -> Finding:
    import onnx

    return Finding("onnx", "ok", onnx.__version__)


def _onnxslim() -> Finding:
    importlib.import_module("onnxslim")
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

    Raises InputError for a broken entry point of another package's runtime.
    """
    runtimes = {name: one.probe for name, one in RUNTIMES.items() if one.probe}
    return {**_BEFORE, **runtimes, **_AFTER}
