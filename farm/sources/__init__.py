"""Model sources: where a detector comes from. Each is one file or package, listed in the catalog.

A source provides

    check(model)                                            its facts, or what is wrong with it
    load(model)                                             a `Detector`
    export_onnx(detector, shape, opset, path, postprocess)  its ONNX file
    set_threads(threads)                                    how many cores its reference may use

The package of a source is light to import; see `farm.sources.mmdet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from farm.detections import Detections, ImageMeta
    from farm.specs import ModelFacts


class Detector(Protocol):
    """A loaded model: its facts, and the reference results that engines are compared with."""

    @property
    def facts(self) -> ModelFacts: ...

    def reference(self, image: npt.NDArray[Any], meta: ImageMeta) -> Detections:
        """Detect on one prepared image [3, H, W]; boxes are in pixels of the original image."""

    def reference_as_graph(self, image: npt.NDArray[Any]) -> Detections:
        """Detect with the information that an exported graph has; boxes in network pixels."""

    def raw(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Return the raw outputs by name, for images [N, 3, H, W]."""

    def graph(self, postprocess: str = "graph") -> Any:
        """Return the torch module to export or to run, for sources that PyTorch can run.

        Raises:
            StepFailed: the source has no torch module, or the model cannot be exported.
        """
