"""Convolution at some places only, which Guided Anchoring uses to save time."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch.nn.functional as F
from mmcv.ops import MaskedConv2d
from mmdet.models.dense_heads import GuidedAnchorHead
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced


def masked_conv2d(
    features: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """mmcv's own: a convolution, zero where the mask [1 or N, h, w] is not over 0."""
    found = F.conv2d(features, weight, bias, stride, padding)
    return found * (mask > 0).unsqueeze(1).to(found.dtype)


_forward = GuidedAnchorHead.forward


def _plain(layer: Any, features: Tensor, mask: Tensor | None = None) -> Tensor:
    return super(MaskedConv2d, layer).forward(features)


def guided(head: Any, features: Any) -> tuple[list[Tensor], ...]:
    """`GuidedAnchorHead.forward` for any batch: each image by its own mask, not by the first's."""
    with replaced(MaskedConv2d, "forward", _plain):
        scores, deltas, shapes, places = _forward(head, features)
    masks = [(place.sigmoid() >= head.loc_filter_thr).to(place.dtype) for place in places]
    scores = [score * mask for score, mask in zip(scores, masks, strict=True)]
    deltas = [delta * mask for delta, mask in zip(deltas, masks, strict=True)]
    return scores, deltas, shapes, places
