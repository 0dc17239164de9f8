"""The ONNX file of a detector: its operators in standard form while torch writes it."""

from __future__ import annotations

from pathlib import Path

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from farm import specs
from farm.sources import onnx_files
from farm.sources.mmdet import patches
from farm.sources.mmdet.detector import Detector


def export(
    detector: Detector, shape: specs.Shape, opset: int, path: Path, postprocess: str = "graph"
) -> None:
    """Write `path`: `images` [N, 3, H, W] -> what `graphs.graph` says of `postprocess`.

    Raises:
        StepFailed: an operator that this opset cannot express, or a file that ONNX refuses.
    """
    with patches.standard(opset):
        onnx_files.write(detector.graph(postprocess), shape, opset, path)
