"""The shape profiles of single models."""

from __future__ import annotations

from farm.specs import Shape
from farm.units import Dims

_MAX_EXTENT = 1 << 16
"""The upper bound of a free axis: an ONNX file states none."""

_USUAL_EDGE = 512
"""The size that an engine for images of any size is tuned for."""

_EDGE_MULTIPLE = 128
"""Bounds of a dynamic engine are rounded up to this, which all paddings of mmdet divide."""


def fixed(size: Dims) -> Shape:
    """Return the shape of images that are letterboxed to exactly this size."""
    return Shape(f"{size.h}x{size.w}", size, size, size)


def free(n: int | None, h: int | None, w: int | None, opt: Dims) -> Shape:
    """Return the shape that takes any extent of an axis given as None, traced at `opt`."""
    low, high = (Dims(n or end, 3, h or end, w or end) for end in (1, _MAX_EXTENT))
    return Shape(f"{opt.h}x{opt.w} dynamic", low, opt, high)


def resized_to(scale: Dims | None, batch: int = 1) -> Shape:
    """Return the shape of all sizes that resizing images to `scale`, and then padding, can make.

    Without a scale it is for images of any size.
    """
    if scale is None:
        return free(batch, None, None, Dims(batch, 3, _USUAL_EDGE, _USUAL_EDGE))
    longest = -(-max(scale.h, scale.w) // _EDGE_MULTIPLE) * _EDGE_MULTIPLE
    low, opt, high = (
        Dims(batch, 3, *size) for size in ((1, 1), (scale.h, scale.w), (longest, longest))
    )
    return Shape(f"{scale.h}x{scale.w} scale", low, opt, high)
