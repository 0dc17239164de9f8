"""CARAFE: upsampling by a kernel that is predicted for each place (arXiv 1905.02188)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
import torch.nn.functional as F
from mmdet.models.necks import FPN_CARAFE
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced


def carafe(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> Tensor:
    """mmcv's own, as products of shifted features: of each place of the kernel in turn.

    features [N, C, h, w]; masks [N, groups * K, h * s, w * s] for K places of the kernel and the
    scale s. Returns [N, C, h * s, w * s], zero outside.
    """
    batch, channels, height, width = features.shape
    places, finer = kernel_size**2, scale_factor**2
    masks = masks.reshape(-1, places, height, scale_factor, width, scale_factor)
    masks = masks.permute(0, 1, 3, 5, 2, 4).reshape(-1, places, finer, height * width)
    reach = kernel_size // 2
    padded = F.pad(features, (reach,) * 4)
    result = torch.zeros(())
    for place in range(places):
        y, x = divmod(place, kernel_size)
        rows, columns = _shifted(y, reach), _shifted(x, reach)
        seen = padded[:, :, rows, columns].reshape(-1, channels // group_size, 1, height * width)
        result = result + seen * masks[:, place].unsqueeze(1)
    return F.pixel_shuffle(result.reshape(batch, -1, height, width), scale_factor)


def _shifted(start: int, reach: int) -> slice:
    """As long as the map without its padding, whatever its size."""
    return slice(start, start - 2 * reach or None)


def swap(opset: int) -> AbstractContextManager[None]:
    """CARAFE's pyramid cuts the coarser level at every size, not by whether the traced one fits."""
    return replaced(FPN_CARAFE, "tensor_add", _sum)


def _sum(neck: Any, fine: Tensor, coarse: Tensor) -> Tensor:
    return fine + coarse[:, :, : fine.shape[2], : fine.shape[3]]
