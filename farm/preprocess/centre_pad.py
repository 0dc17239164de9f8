"""Padding on all sides, by which keypoint detectors are tested (`RandomCenterCropPad` of mmdet)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from farm.errors import StepFailed
from farm.specs import Sizes
from farm.specs.pipeline import CentrePad

Image = npt.NDArray[Any]


def next_size(how: CentrePad, extent: int) -> int:
    """Returns the least padded extent that is not under `extent`."""
    if how.mode == "size_divisor":
        return -(-extent // how.number) * how.number
    return (max(extent - how.extra, 0) | how.number) + how.extra


def padded_sizes(how: CentrePad) -> Sizes:
    """Returns the sizes that the step leaves as they are, and pads all others to."""
    multiple = how.number if how.mode == "size_divisor" else 1 << how.number.bit_length()
    far = multiple * (1 + how.extra)  # where nothing is cut off at zero
    own = (r for r in range(multiple) if next_size(how, far + r) == far + r)
    return Sizes(multiple, tuple(own))


def require_size(how: CentrePad, size: tuple[int, int]) -> None:
    """Check that the step can pad to `size` (h, w), which the network needs.

    Raises:
        StepFailed: it never does.
    """
    fitting = tuple(next_size(how, extent) for extent in size)
    if fitting != size:
        raise StepFailed(
            f"the test pipeline pads to other sizes than {size[0]}x{size[1]} (HxW); the next"
            f" that fits is {fitting[0]}x{fitting[1]}"
        )


def centre_pad(image: Image, how: CentrePad) -> tuple[Image, int, int]:
    """Returns the padded image, and where the first row and column of `image` lie in it.

    As mmdet does, which at odd extents may cut off the last row or column.
    """
    extents = image.shape[:2]
    size = how.size or tuple(_own_size(how, extent) for extent in extents)
    padded = np.empty((*size, image.shape[2]), image.dtype)
    padded[:] = how.value
    (rows, from_rows, top), (columns, from_columns, left) = map(_overlap, extents, size)
    padded[rows, columns] = image[from_rows, from_columns]
    return padded, top, left


def _own_size(how: CentrePad, extent: int) -> int:
    if how.mode == "size_divisor":
        return next_size(how, extent)
    return (extent | how.number) + how.extra


def _overlap(extent: int, size: int) -> tuple[slice, slice, int]:
    """Along one axis with both centres aligned: the part that is written, and the part read."""
    centre, half = extent // 2, size // 2
    first, last = max(0, centre - half), min(centre + half, extent)
    start = half - (centre - first)
    return slice(start, half + last - centre), slice(first, last), start
