"""Preprocessing: from image files to the inputs of networks, for the models of all sources.

A `Pipeline` (`farm.specs.pipeline`) is run by `opencv`, with numpy and OpenCV alone. A test
pipeline of MMDetection's that has other transforms is run by its own code (`farm.sources.mmdet`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from farm import catalog
from farm.errors import StepFailed

if TYPE_CHECKING:
    from farm.detections import ImageMeta
    from farm.specs import Shape, Sizes


class NoImage(StepFailed):
    """The file does not exist or cannot be decoded, whatever would follow."""


class Preparer(Protocol):
    """Makes the network's input from one image file."""

    def __call__(
        self, image_path: str, image_id: int, file_name: str
    ) -> tuple[npt.NDArray[Any], ImageMeta]:
        """Returns the image as [3, H, W] and its meta.

        The values are float32, or those of the decoded file where nothing normalises them.

        Raises:
            NoImage: the file does not exist or is no image that OpenCV decodes.
            StepFailed: a step fails on the image or leaves other than three channels; or the
                prepared size lies outside the bounds of the shape, or the network does not take it.
        """


def preparer(pipeline: str, shape: Shape, sizes: Sizes | None = None) -> Preparer:
    """Returns what prepares images by `pipeline` (`ModelFacts.pipeline`) for one shape profile.

    A fixed shape letterboxes: the image is resized to fit opt.h x opt.w and padded to exactly
    that. With a dynamic size, opt gives the scale (long and short edge) as the `img_scale` of a
    config does, unless the pipeline resizes by a factor; its own padding stays.

    sizes: those that the network takes; None for any.

    Raises:
        StepFailed: a step cannot be made, or never pads to a fixed shape.
    """
    module = importlib.import_module(catalog.preparer_of(pipeline).module)
    made: Preparer = module.Preparer(pipeline, shape, sizes)
    return made
