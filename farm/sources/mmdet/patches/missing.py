"""CPU versions, in plain PyTorch, of operators that mmcv implements for CUDA only.

They can also be exported: they trace to standard operators at every opset.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import mmcv.ops
from mmdet.models.dense_heads import GuidedAnchorHead

from farm.sources.mmdet.patches.convolutions import guided, masked_conv2d
from farm.sources.mmdet.patches.pooling import deform_roi_pool
from farm.sources.mmdet.patches.replaced import replaced, replaced_everywhere
from farm.sources.mmdet.patches.sampling import carafe

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
