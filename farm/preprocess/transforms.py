"""The transforms of a pipeline on arrays [H, W, C], computed as mmcv 1.7 and mmdet 2.28 do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from farm.errors import StepFailed
from farm.specs import Sizes

if TYPE_CHECKING:
    from farm.specs.pipeline import CentrePad, Decode, Normalize, Pad, Resize, Triple

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
    """Decode the bytes of a file; None where OpenCV knows no image in them.

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
    """Resize to `scale` (w, h), or with `keep_ratio` to fit its long and short edge."""
    height, width = image.shape[:2]
    if how.keep_ratio:
        long, short = max(height, width), min(height, width)
        factor = min(max(scale) / long, min(scale) / short)
        scale = (int(width * factor + 0.5), int(height * factor + 0.5))
    return cv2.resize(image, scale, interpolation=_INTERPOLATIONS[how.interpolation])


def normalize(image: Image, how: Normalize) -> Image:
    """Normalise to float32; the constants are rounded to single precision, then taken as double."""
    image = image.astype(np.float32)  # a copy, which is changed in place
    if how.to_rgb:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)
    cv2.subtract(image, _by_channel(how.mean), image)
    cv2.multiply(image, 1 / _by_channel(how.std), image)
    return image


def _by_channel(values: Triple) -> npt.NDArray[np.float64]:
    return np.array([values], np.float32).astype(np.float64)


def pad(image: Image, how: Pad) -> Image:
    """Pad on the right and below; an image that is larger stays as it is."""
    height, width = image.shape[:2]
    wanted_h, wanted_w = how.size or _padded_size(height, width, how)
    below, right = max(wanted_h - height, 0), max(wanted_w - width, 0)
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT, value=how.value)


def _padded_size(height: int, width: int, how: Pad) -> Size:
    if how.square:
        return (max(height, width),) * 2
    multiple = how.divisor or 1
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def _next_extent(how: CentrePad, extent: int) -> int:
    """Return the least padded extent that is not under `extent`."""
    if how.mode == "size_divisor":
        return -(-extent // how.number) * how.number
    return (max(extent - how.extra, 0) | how.number) + how.extra


def centre_padded_sizes(how: CentrePad) -> Sizes:
    """Return the sizes that the step leaves as they are, and pads all others to."""
    multiple = how.number if how.mode == "size_divisor" else 1 << how.number.bit_length()
    far = multiple * (1 + how.extra)  # where nothing is cut off at zero
    own = (r for r in range(multiple) if _next_extent(how, far + r) == far + r)
    return Sizes(multiple, tuple(own))


def require_centre_padded(how: CentrePad, size: tuple[int, int]) -> None:
    """Check that the step can pad to `size` (h, w), which the network needs.

    Raises:
        StepFailed: it never does.
    """
    fitting = tuple(_next_extent(how, extent) for extent in size)
    if fitting != size:
        raise StepFailed(
            f"the test pipeline pads to other sizes than {size[0]}x{size[1]} (HxW); the next"
            f" that fits is {fitting[0]}x{fitting[1]}"
        )


def centre_pad(image: Image, how: CentrePad) -> tuple[Image, int, int]:
    """Return the padded image, and where the first row and column of `image` lie in it.

    As mmdet does, which at odd extents may cut off the last row or column.
    """
    extents = image.shape[:2]
    size = how.size or tuple(_own_extent(how, extent) for extent in extents)
    padded = np.empty((*size, image.shape[2]), image.dtype)
    padded[:] = how.value
    (rows, from_rows, top), (columns, from_columns, left) = map(_overlap, extents, size)
    padded[rows, columns] = image[from_rows, from_columns]
    return padded, top, left


def _own_extent(how: CentrePad, extent: int) -> int:
    if how.mode == "size_divisor":
        return _next_extent(how, extent)
    return (extent | how.number) + how.extra


def _overlap(extent: int, size: int) -> tuple[slice, slice, int]:
    """Along one axis with both centres aligned: the part that is written, and the part read."""
    centre, half = extent // 2, size // 2
    first, last = max(0, centre - half), min(centre + half, extent)
    start = half - (centre - first)
    return slice(start, half + last - centre), slice(first, last), start
