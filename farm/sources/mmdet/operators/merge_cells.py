"""Feature maps pooled to the size of another, as NAS-FPN merges them."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch.nn.functional as F
from mmcv.ops.merge_cells import BaseMergeCell
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced

_resize = BaseMergeCell._resize


def swap(opset: int) -> AbstractContextManager[None]:
    return replaced(BaseMergeCell, "_resize", _pooled)


def _pooled(cell: Any, feature: Tensor, size: Any) -> Tensor:
    """As mmcv's own, but by whole numbers where it pools: an operator's kernel is no tensor.

    They are those of the traced size. Between levels of a pyramid they are the same at every size
    that is a multiple of the largest stride, to which such models pad their images; at any other
    the sums that follow do not fit, and a runtime says so.
    """
    have, want = [int(n) for n in feature.shape[-2:]], [int(n) for n in size]
    if have <= want:
        return _resize(cell, feature, size)
    (top, bottom), (left, right) = (_halves(-h % w) for h, w in zip(have, want, strict=True))
    if top + bottom + left + right:
        feature = F.pad(feature, (left, right, top, bottom))
    kernel = [math.ceil(h / w) for h, w in zip(have, want, strict=True)]
    return F.max_pool2d(feature, kernel, kernel)


def _halves(total: int) -> tuple[int, int]:
    return total // 2, total - total // 2
