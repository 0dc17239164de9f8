"""The shape profiles of single models."""

from __future__ import annotations

from farm.inputs import Shape
from farm.units import Dims

_FREE = 1 << 16
"""How far a free axis may go: a file knows no bounds."""

_EDGE = 128
"""Bounds of a dynamic engine are rounded up to this, which all paddings of mmdet divide."""


def fixed(size: Dims) -> Shape:
    """Images are letterboxed to exactly this."""
    return Shape(f"{size.h}x{size.w}", size, size, size)


def free(n: int | None, h: int | None, w: int | None, opt: Dims) -> Shape:
    """Any extent where None is given, traced at `opt`."""
    low, high = (Dims(n or end, 3, h or end, w or end) for end in (1, _FREE))
    return Shape(f"{opt.h}x{opt.w} dynamic", low, opt, high)


def resized_to(scale: Dims) -> Shape:
    """For all sizes that resizing images to `scale`, and then padding, can make."""
    longest = -(-max(scale.h, scale.w) // _EDGE) * _EDGE
    low, high = Dims(scale.n, 3, 1, 1), Dims(scale.n, 3, longest, longest)
    return Shape(f"{scale.h}x{scale.w} scale", low, scale, high)
