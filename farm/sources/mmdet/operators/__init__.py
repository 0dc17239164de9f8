"""Operators of mmcv, and of torch above what an opset has, as standard ONNX.

`standard(opset)` puts each in place of what the model's own code calls, while it is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from farm.sources.mmdet.operators import (
    adaptive_pool,
    carafe,
    corner_pool,
    deform_attention,
    deform_conv,
    dyhead,
    grid_sample,
    merge_cells,
    roi_align,
    same_padding,
    shifted_windows,
    tood,
    unflatten,
    vfnet,
)

Swap = Callable[[int], AbstractContextManager[None]]

SWAPS: tuple[Swap, ...] = (
    adaptive_pool.swap,
    carafe.swap,
    corner_pool.swap,
    deform_attention.swap,
    deform_conv.swap,
    dyhead.swap,
    grid_sample.swap,
    merge_cells.swap,
    roi_align.swap,
    same_padding.swap,
    shifted_windows.swap,
    tood.swap,
    unflatten.swap,
    vfnet.swap,
)
"""One per operator: takes the opset, and puts back on exit what it replaced."""


@contextmanager
def standard(opset: int) -> Iterator[None]:
    """While this is open, the model's code traces to standard operators of `opset`."""
    with ExitStack() as stack:
        for swap in SWAPS:
            stack.enter_context(swap(opset))
        yield
