"""MMDetection 2.x as a source of detectors: check, load, export.

Importing this package is light; torch, mmcv and mmdet are imported by what is called.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from farm import specs
from farm.units import Dims

if TYPE_CHECKING:
    from farm.sources.mmdet.detector import Detector

__all__ = ["Detector", "check", "export_onnx", "load", "set_threads", "size"]


def check(model: specs.Model) -> specs.ModelFacts:
    """What only mmdet can tell of `model`: its config parses, its checkpoint fits, its facts.

    Raises:
        InputError: config or checkpoint is missing, unreadable, or they do not fit each other.
    """
    from farm.sources.mmdet import sizes

    detector = load(model)
    return replace(detector.facts, sizes=sizes.taken(detector))


def load(model: specs.Model) -> Detector:
    """The detector in eval mode, on the CPU, with the checkpoint's weights.

    Raises:
        InputError: as `check`.
    """
    from farm.sources.mmdet import detector

    return detector.load(model)


def size(model: specs.Model) -> Dims | None:
    """What its own test pipeline resizes images to; None where that is relative to each image.

    Raises:
        InputError: its config says neither.
    """
    from farm.sources.mmdet import config, sizes

    return sizes.own_scale(config.read(model), model.config.path)


def set_threads(threads: int) -> None:
    """Sets how many cores PyTorch may use."""
    import torch

    torch.set_num_threads(threads)


def export_onnx(
    detector: Detector, shape: specs.Shape, opset: int, path: Path, postprocess: str = "graph"
) -> None:
    """Write `detector` as ONNX: `images` -> `dets`, `labels` (and `masks`), or cut before them.

    Raises:
        StepFailed: the model or one of its operators cannot be written at this opset.
    """
    from farm.sources.mmdet import onnx_file

    onnx_file.export(detector, shape, opset, path, postprocess)


def __getattr__(name: str) -> type:
    """`Detector`, imported when first asked for."""
    if name == "Detector":
        from farm.sources.mmdet.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
