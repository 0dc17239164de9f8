"""The source for MMDetection 2.x detectors: check, load, export.

Importing this package is cheap; its functions import torch, mmcv and mmdet when they are called.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm import specs
    from farm.sources.mmdet.detector import Detector
    from farm.specs import Dims

__all__ = ["Detector", "check", "export_onnx", "load", "set_threads", "size"]


def check(model: specs.Model) -> specs.ModelFacts:
    """Load `model` with mmdet and return its facts.

    Raises:
        InputError: config or checkpoint is missing or unreadable, or they do not fit each other.
        StepFailed: the config's test pipeline is of a kind that cannot be prepared here.
    """
    from farm.sources.mmdet import sizes

    detector = load(model)
    return replace(detector.facts, sizes=sizes.taken(detector))


def load(model: specs.Model) -> Detector:
    """Load the detector in eval mode, on the CPU, with the checkpoint's weights.

    Raises:
        InputError: as `check`.
        StepFailed: as `check`.
    """
    from farm.sources.mmdet import detector

    return detector.load(model)


def size(model: specs.Model) -> Dims | None:
    """Return the size to which its test pipeline resizes; None if relative to each image.

    Raises:
        InputError: the config states no such size.
    """
    from farm.sources.mmdet import config
    from farm.sources.mmdet.data.test_data import own_scale

    return own_scale(config.read(model), model.config.path)


def set_threads(threads: int) -> None:
    """Set how many cores PyTorch may use."""
    import torch

    torch.set_num_threads(threads)


def export_onnx(
    detector: Detector, shape: specs.Shape, opset: int, path: Path, postprocess: str = "graph"
) -> None:
    """Write `detector` as ONNX: `images` -> `dets`, `labels` (and `masks`).

    With `postprocess` host or none, the graph ends earlier.

    Raises:
        StepFailed: the model or one of its operators cannot be exported at this opset.
    """
    detector.export(shape, opset, path, postprocess)


def __getattr__(name: str) -> type:
    """`Detector`, imported at its first use."""
    if name == "Detector":
        from farm.sources.mmdet.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
