"""Images prepared by the steps of a `Pipeline`, with numpy and OpenCV alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from farm import preprocess
from farm.detections import ImageMeta
from farm.preprocess import failure, not_decoded, require_image, transforms
from farm.preprocess.transforms import Image, centre_pad, require_centre_padded
from farm.specs.pipeline import (
    CentrePad,
    Normalize,
    Pad,
    Pipeline,
    Resize,
    Step,
    name_of,
    parsed,
)

if TYPE_CHECKING:
    from farm.specs import Shape, Sizes


class Preparer:
    """Makes the network's input from an image file; see `farm.preprocess.preparer`."""

    def __init__(self, pipeline: str, shape: Shape, sizes: Sizes | None = None) -> None:
        """Raises StepFailed where a padding on all sides never makes the fixed shape."""
        # The farm runs one process per core; OpenCV's own threads would compete with them.
        cv2.setNumThreads(0)
        self._shape, self._sizes = shape, sizes
        self._pipeline = parsed(pipeline)
        if not shape.dynamic_size:
            self._pipeline = filling(self._pipeline, (shape.opt.h, shape.opt.w))

    def __call__(self, image_path: str, image_id: int, file_name: str) -> tuple[Image, ImageMeta]:
        """As `farm.preprocess.Preparer`."""
        image = self._decoded(image_path)
        original_h, original_w = valid_h, valid_w = image.shape[:2]
        top = left = 0
        for step in self._pipeline.steps:
            with _named(step, image_path):
                if isinstance(step, CentrePad):
                    image, top, left = centre_pad(image, step)
                else:
                    image = self._applied(step, image)
            if isinstance(step, Resize):
                valid_h, valid_w = image.shape[:2]
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
        preprocess.check_size(image.shape, self._shape, self._sizes, file_name)
        _, height, width = image.shape
        scale_x, scale_y = _factor(valid_w, original_w), _factor(valid_h, original_h)
        meta = ImageMeta(
            image_id, file_name, original_h, original_w,
            valid_h, valid_w, height, width, scale_x, scale_y, left, top,
        )  # fmt: skip
        return image, meta

    def _decoded(self, image_path: str) -> Image:
        how = self._pipeline.decode
        try:
            image = transforms.decode(Path(image_path).read_bytes(), how)
        except Exception as error:  # of the file system and of OpenCV
            raise failure(error, _step_name("decode"), True, image_path) from error
        if image is None:
            raise not_decoded(image_path)
        require_image(image, _step_name("decode"), image_path)
        return image

    def _applied(self, step: Resize | Normalize | Pad, image: Image) -> Image:
        if isinstance(step, Normalize):
            return transforms.normalize(image, step)
        if isinstance(step, Pad):
            return transforms.pad(image, step)
        height, width = image.shape[:2]
        if step.factor:
            scale = (int(width * step.factor), int(height * step.factor))
        else:
            scale = preprocess.scale(self._shape, step.keep_ratio, height, width)
        return transforms.resize(image, step, scale)


def filling(pipeline: Pipeline, size: tuple[int, int]) -> Pipeline:
    """Returns the pipeline that pads to exactly `size` (h, w): where it pads, else at the end.

    Raises:
        StepFailed: its padding on all sides never makes that size.
    """
    steps = tuple(_filling(step, size) for step in pipeline.steps)
    if not any(isinstance(step, Pad | CentrePad) for step in steps):
        steps += (Pad(size),)
    return replace(pipeline, steps=steps)


def _filling(step: Step, size: tuple[int, int]) -> Step:
    if isinstance(step, Resize):
        return replace(step, factor=None)
    if isinstance(step, Pad):
        return Pad(size, value=step.value)
    if isinstance(step, CentrePad):
        require_centre_padded(step, size)
        return replace(step, size=size)
    return step


def _factor(extent: int, original: int) -> float:
    """In single precision, as mmdet has it."""
    return float(np.float32(extent / original))


def _step_name(name: str) -> str:
    return f"the test pipeline's {name}"


@contextmanager
def _named(step: Step, image_path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of OpenCV and numpy, on this image
        raise failure(error, _step_name(name_of(step)), False, image_path) from error
