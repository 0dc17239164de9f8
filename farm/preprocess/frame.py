"""The sizes of prepared images: by the shape profile, and as the network needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.errors import StepFailed

if TYPE_CHECKING:
    from farm.specs import Shape, Sizes


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
