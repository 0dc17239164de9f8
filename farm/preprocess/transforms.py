"""The transforms of a pipeline on arrays [H, W, C], computed as mmcv 1.7 and mmdet 2.28 do."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from farm.specs.pipeline import Decode, Normalize, Pad, Resize, Triple

Image = npt.NDArray[Any]
Size = tuple[int, int]

_FLAGS = {
    "color": cv2.IMREAD_COLOR,
    "color_ignore_orientation": cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_COLOR,
    "grayscale": cv2.IMREAD_GRAYSCALE,
    "grayscale_ignore_orientation": cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_GRAYSCALE,
    "unchanged": cv2.IMREAD_UNCHANGED,
}
_INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def decode(content: bytes, how: Decode) -> Image | None:
    """Decodes the bytes of a file; None where OpenCV knows no image in them.

    Raises:
        cv2.error: the file is empty, or the image is larger than what OpenCV decodes.
    """
    image = cv2.imdecode(np.frombuffer(content, np.uint8), _FLAGS[how.color_type])
    if image is None:
        return None
    if how.color_type == "color" and how.channel_order == "rgb":
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image.astype(np.float32) if how.to_float32 else image


def resize(image: Image, how: Resize, scale: Size) -> Image:
    """Resizes to `scale` (w, h), or with `keep_ratio` to fit its long and short edge."""
    height, width = image.shape[:2]
    if how.keep_ratio:
        long, short = max(height, width), min(height, width)
        factor = min(max(scale) / long, min(scale) / short)
        scale = (int(width * factor + 0.5), int(height * factor + 0.5))
    return cv2.resize(image, scale, interpolation=_INTERPOLATIONS[how.interpolation])


def normalize(image: Image, how: Normalize) -> Image:
    """Normalises to float32, with the constants in double precision made from single."""
    image = image.astype(np.float32)  # a copy, which is changed in place
    if how.to_rgb:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)
    cv2.subtract(image, _by_channel(how.mean), image)
    cv2.multiply(image, 1 / _by_channel(how.std), image)
    return image


def _by_channel(values: Triple) -> npt.NDArray[np.float64]:
    return np.array([values], np.float32).astype(np.float64)


def pad(image: Image, how: Pad) -> Image:
    """Pads on the right and below; an image that is larger stays as it is."""
    height, width = image.shape[:2]
    wanted_h, wanted_w = how.size or _next_size(height, width, how)
    below, right = max(wanted_h - height, 0), max(wanted_w - width, 0)
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=how.value)


def _next_size(height: int, width: int, how: Pad) -> Size:
    if how.square:
        return (max(height, width),) * 2
    multiple = how.divisor or 1
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple
