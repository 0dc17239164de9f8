"""Model sources: where a detector comes from. One file or package each; one line in the catalog.

A source provides

    check(model)                                            its facts, or what is wrong with it
    load(model)                                             a `Detector`
    export_onnx(detector, shape, opset, path, postprocess)  its ONNX file
    set_threads(threads)                                    how many cores its reference may use

The package of a source is light to import; see `farm.sources.mmdet`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from farm.catalog import SOURCES
from farm.detections import Detections, ImageMeta
from farm.parts import SourceAdapter
from farm.specs import ModelFacts


class Detector(Protocol):
    """A loaded model: its facts, and the answers that engines are held against."""

    @property
    def facts(self) -> ModelFacts: ...

    def reference(self, image: npt.NDArray[Any], meta: ImageMeta) -> Detections:
        """What it finds on one prepared image [3, H, W], in the original image's pixels."""

    def reference_as_graph(self, image: npt.NDArray[Any]) -> Detections:
        """The same, told only what an exported graph can know; in network pixels."""

    def raw(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Its raw outputs by name, for images [N, 3, H, W]."""

    def graph(self, postprocess: str = "graph") -> Any:
        """The torch module to export or to run, for sources that PyTorch can run."""


def source_module(name: str) -> SourceAdapter:
    """Return what loads a source's models; its heavy imports happen when it is used."""
    return SOURCES[name].adapter()
