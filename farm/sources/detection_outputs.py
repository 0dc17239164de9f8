"""Models whose outputs are in the farm's format already: a ready ONNX file, a torch module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm.detections import Detections, Floats, ImageMeta
from farm.detections.convert import from_outputs, in_network_frame, to_original
from farm.errors import StepFailed

if TYPE_CHECKING:
    from farm import specs

Run = Callable[[Floats], dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class OwnForm:
    """A detector whose `run` returns the farm's output format.

    run: images [N, 3, H, W] -> dets, labels(, masks), or raw outputs, by name.
    """

    facts: specs.ModelFacts
    run: Run

    def reference(self, image: Floats, meta: ImageMeta) -> Detections:
        """Detect on one image; boxes, and masks as `rles`, are in pixels of the original image."""
        facts = self.facts
        return to_original(
            self._found(image), meta, facts.clips_boxes, facts.mask_threshold, facts.mask_frame
        )

    def reference_as_graph(self, image: Floats) -> Detections:
        """Detect on one image; boxes and masks (`rles`) are in pixels of the network's input."""
        facts = self.facts
        found = self._found(image)
        return in_network_frame(found, image.shape[1:], facts.mask_threshold, facts.mask_frame)

    def raw(self, images: Floats) -> dict[str, npt.NDArray[Any]]:
        """Return the outputs by name, for images [N, 3, H, W]."""
        return self.run(images)

    def _found(self, image: Floats) -> Detections:
        batch = (self.facts.input_shape or (1,))[0] or 1
        outputs = self.run(np.repeat(image[None], batch, 0))
        check_form({name: values.shape for name, values in outputs.items()}, batch)
        return from_outputs(outputs)[0]


def check_form(shapes: dict[str, tuple[int, ...]], batch: int) -> None:
    """Check that outputs of these shapes are detections of `batch` images.

    Raises:
        StepFailed: an output is missing, or has another shape than the farm's format.
    """
    expected = "dets [N, K, 5] (x1 y1 x2 y2 score), labels [N, K] and perhaps masks [N, K, m, m]"
    dets, labels, masks = (shapes.get(name) for name in ("dets", "labels", "masks"))
    rows = (dets or ())[:2]
    whole = dets is not None and len(dets) == 3 and dets[::2] == (batch, 5) and labels == rows
    if not whole or (masks is not None and (len(masks) != 4 or masks[:2] != rows)):
        found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        what = f"its outputs are {found} for N = {batch}"
        raise StepFailed(f"{what}; expected {expected}, or `outputs: raw`")
