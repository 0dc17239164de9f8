"""The errors of an image on which a step of a pipeline fails."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from farm.errors import StepFailed, in_one_line
from farm.preprocess import NoImage

_DTYPES = ("uint8", "uint16", "float32")
"""Of images as they are decoded and prepared."""


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
