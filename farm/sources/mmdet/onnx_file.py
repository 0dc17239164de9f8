"""Writes the ONNX file of a detector, with standard operators in place of mmcv's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from farm.sources import onnx_files
from farm.sources.mmdet import patches

if TYPE_CHECKING:
    from farm import specs
    from farm.sources.mmdet.detector import Detector


def export(
    detector: Detector, shape: specs.Shape, opset: int, path: Path, postprocess: str = "graph"
) -> None:
    """Write `path`: `images` [N, 3, H, W] -> the outputs that `graphs.graph` documents.

    Raises:
        StepFailed: the model cannot be exported with this `postprocess`, this opset lacks an
            operator, or ONNX's checker refuses the file.
    """
    with patches.standard(opset):
        onnx_files.write(detector.graph(postprocess), shape, opset, path)
