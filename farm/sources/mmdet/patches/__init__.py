"""Replaces operators of mmcv, and those of torch that an opset lacks, with standard ONNX ones.

`standard(opset)` replaces the functions that the model's own code calls, while it is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from farm.sources.mmdet.patches import (
    attention,
    convolutions,
    deform_conv,
    pooling,
    roi_align,
    sampling,
)

Patch = Callable[[int], AbstractContextManager[None]]

PATCHES: tuple[Patch, ...] = (
    pooling.patch_adaptive_pool,
    sampling.patch_carafe,
    pooling.patch_corner_pool,
    attention.patch_deform_attention,
    deform_conv.patch_deform_conv,
    convolutions.patch_dyhead,
    sampling.patch_grid_sample,
    pooling.patch_merge_cells,
    roi_align.patch_roi_align,
    convolutions.patch_same_padding,
    attention.patch_shifted_windows,
    convolutions.patch_tood,
    attention.patch_unflatten,
    convolutions.patch_vfnet,
)
"""Context managers, one per operator: each takes the opset, and restores the original on exit."""


@contextmanager
def standard(opset: int) -> Iterator[None]:
    """Make the model's code trace to standard operators of `opset`, in the block."""
    with ExitStack() as stack:
        for swap in PATCHES:
            stack.enter_context(swap(opset))
        yield
