"""Replaces operators of mmcv, and those of torch that an opset lacks, with standard ONNX ones.

`standard(opset)` replaces the functions that the model's own code calls, while it is traced.
`complete()` replaces operators that mmcv implements for CUDA only by plain PyTorch on the CPU,
which can be exported, too: it traces to standard operators at every opset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv.ops
from mmdet.models.dense_heads import GuidedAnchorHead

from farm.sources.mmdet.compat import replaced, replaced_everywhere
from farm.sources.mmdet.patches import (
    attention,
    convolutions,
    deform_conv,
    pooling,
    roi_align,
    sampling,
)
from farm.sources.mmdet.patches.convolutions import guided, masked_conv2d
from farm.sources.mmdet.patches.pooling import deform_roi_pool
from farm.sources.mmdet.patches.sampling import carafe

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


_WRITTEN: dict[str, Callable[..., Any]] = {
    "carafe": carafe,
    "carafe_naive": carafe,
    "deform_roi_pool": deform_roi_pool,
    "masked_conv2d": masked_conv2d,
}
_placed = ExitStack()


def complete() -> None:
    """Make mmcv and mmdet in this process use these versions for tensors on the CPU."""
    for name, written in _WRITTEN.items():
        original = getattr(mmcv.ops, name)
        if not hasattr(original, "__wrapped__"):
            _placed.enter_context(replaced_everywhere(original, name, _for_cpu(original, written)))
    if GuidedAnchorHead.forward is not guided:
        _placed.enter_context(replaced(GuidedAnchorHead, "forward", guided))


def _for_cpu(original: Callable[..., Any], written: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(written)
    def call(features: Any, *arguments: Any) -> Any:
        return (original if features.is_cuda else written)(features, *arguments)

    return call
