"""Preprocessing: from image files to the inputs of networks, for the models of all sources.

A `Pipeline` (`farm.specs.pipeline`) is run by `opencv`, with numpy and OpenCV alone. A test
pipeline of MMDetection's that has other transforms is run by its own code (`farm.sources.mmdet`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from farm import catalog
from farm.errors import StepFailed
from farm.failures import in_one_line

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


_DTYPES = ("uint8", "uint16", "float32")
"""Of images as they are decoded and prepared."""


def scale(shape: Shape, keep_ratio: bool, height: int, width: int) -> tuple[int, int]:
    """Returns (w, h), or with `keep_ratio` the two edges of which the longer bounds the longer."""
    opt = shape.opt
    if not keep_ratio:
        return (opt.w, opt.h)
    if shape.dynamic_size:
        return (max(opt.h, opt.w), min(opt.h, opt.w))
    if (height > width) == (opt.h > opt.w):
        return (opt.w, opt.h)
    # An image that stands in a shape that lies (or the reverse) fits by the short edge.
    return (min(opt.h, opt.w),) * 2


def check_size(extents: tuple[int, ...], shape: Shape, sizes: Sizes | None, file_name: str) -> None:
    """Check the size of a prepared image [3, H, W].

    Raises:
        StepFailed: the shape's bounds or the network do not allow it.
    """
    _, height, width = extents
    low, high = shape.min, shape.max
    if not (low.h <= height <= high.h and low.w <= width <= high.w):
        raise StepFailed(
            f"{file_name}: prepared it is {height}x{width} (HxW), outside the shape's bounds"
            f" {low.h}x{low.w} to {high.h}x{high.w}; widen min and max, or choose another opt"
        )
    if sizes and not sizes.fit(height, width):
        raise StepFailed(
            f"{file_name}: prepared it is {height}x{width} (HxW), and the network takes as"
            f" heights and widths {sizes}; let the test pipeline pad to multiples, or"
            " use a fixed shape"
        )


def failure(error: Exception, step: str, decodes: bool, image_path: str) -> BaseException:
    """Returns what to raise for `error`: it names the image and the step.

    step: its name, as `the test pipeline's resize`. decodes: whether it decodes the file.
    """
    reason = f"{image_path}: {step} fails on it: {in_one_line(error)}"
    if isinstance(error, MemoryError) or getattr(error, "code", None) == cv2.Error.StsNoMem:
        return MemoryError(reason)
    if isinstance(error, FileNotFoundError):
        return NoImage(f"{image_path}: no such image")
    if isinstance(error, OSError):
        return NoImage(f"{image_path}: cannot be read: {error.strerror}")
    if "CV_IO_MAX_IMAGE" in str(error):
        return NoImage(f"{image_path}: larger than what OpenCV decodes (2^30 pixels)")
    if decodes and isinstance(error, AttributeError | cv2.error):
        return not_decoded(image_path)
    return StepFailed(reason)


def not_decoded(image_path: str) -> NoImage:
    """Return the error of a file that OpenCV cannot decode."""
    return NoImage(f"{image_path}: not an image that OpenCV can decode")


def require_image(image: Any, step: str, image_path: str) -> None:
    """Check what a step leaves.

    Raises:
        StepFailed: it is no image of three channels.
    """
    shape = "x".join(map(str, getattr(image, "shape", ()))) or "nothing"
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        raise StepFailed(
            f"{image_path}: {step} makes {shape} of it, expected HxWx3: a detector takes three"
            " channels, and color_type='color' decodes every image to so many"
        )
    if image.dtype not in _DTYPES:
        raise StepFailed(
            f"{image_path}: {step} makes {image.dtype} of it, expected one of {', '.join(_DTYPES)}"
        )
