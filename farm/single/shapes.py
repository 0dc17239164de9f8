"""The shape profiles of single models."""

from __future__ import annotations

from farm.specs import Shape
from farm.units import Dims

_FREE = 1 << 16
"""How far a free axis may go: a file knows no bounds."""

_USUAL = 512
"""What an engine for images of any size is tuned for."""

_EDGE = 128
"""Bounds of a dynamic engine are rounded up to this, which all paddings of mmdet divide."""


def fixed(size: Dims) -> Shape:
    """Images are letterboxed to exactly this."""
    return Shape(f"{size.h}x{size.w}", size, size, size)


def free(n: int | None, h: int | None, w: int | None, opt: Dims) -> Shape:
    """Any extent where None is given, traced at `opt`."""
    low, high = (Dims(n or end, 3, h or end, w or end) for end in (1, _FREE))
    return Shape(f"{opt.h}x{opt.w} dynamic", low, opt, high)


def resized_to(scale: Dims | None, batch: int = 1) -> Shape:
    """For all sizes that resizing images to `scale`, and then padding, can make.

    Without a scale, for images of any size.
    """
    if scale is None:
        return free(batch, None, None, Dims(batch, 3, _USUAL, _USUAL))
    longest = -(-max(scale.h, scale.w) // _EDGE) * _EDGE
    low, opt, high = (
        Dims(batch, 3, *size) for size in ((1, 1), (scale.h, scale.w), (longest, longest))
    )
    return Shape(f"{scale.h}x{scale.w} scale", low, opt, high)
