"""Deformable RoI pooling: RoIAlign of each bin as a box of its own."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.operators.roi_align import RoiAlign

_LESS = 1e-5
"""Cells taken off each bin, so that rounding adds no sample to bins of a whole number of cells."""


def deform_roi_pool(
    input: Tensor, rois: Tensor, offset: Tensor | None, output_size: tuple[int, int],
    spatial_scale: float = 1.0, sampling_ratio: int = 0, gamma: float = 0.1,
) -> Tensor:  # fmt: skip
    """mmcv's own: `aligned` boxes whose bins are shifted by `gamma * offset` of their size.

    input [N, C, H, W]; rois [R, 5]: image, x1 y1 x2 y2; offset [R, 2 (x, y), h, w] or None.
    Returns [R, C, h, w].

    Raises:
        ValueError: a number of samples that does not follow the size of the bins.
    """
    if sampling_ratio > 0:
        raise ValueError("deformable RoI pooling with a set number of samples is not known here")
    height, width = output_size
    boxes = (rois[:, 1:] * spatial_scale - 0.5).reshape(-1, 1, 1, 4)
    size = boxes[..., 2:] - boxes[..., :2]
    step = size / size.new_tensor([width, height])
    start = boxes[..., :2] + step * _bins(height, width).to(size)
    if offset is not None:
        start = start + gamma * size * offset.permute(0, 2, 3, 1)
    # RoIAlign widens a bin narrower than a cell, to the right: it is put where the one sample,
    # which is in its middle, stays in place.
    start = start + (step - 1).clamp(max=0) * 0.5
    cells = torch.cat([start, start + step - _LESS], 3).reshape(-1, 4)
    images = rois[:, :1].long().expand(-1, height * width).reshape(-1)
    pooled = RoiAlign.apply(input, cells, images, 1, 1.0, 0, False)
    pooled = pooled.reshape(-1, height, width, input.shape[1]).permute(0, 3, 1, 2)
    counts = (size > 0).all(3).unsqueeze(1).to(pooled.dtype)
    return (pooled * counts).contiguous()


def pooled(layer: Any, features: Tensor, rois: Tensor) -> Tensor:
    """What mmcv's layers with shifts (and a mask) of their own make of any number of boxes."""
    options = layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.gamma
    plain = deform_roi_pool(features, rois, None, *options)
    offset = layer.offset_fc(plain.flatten(1)).reshape(-1, 2, *layer.output_size)
    found = deform_roi_pool(features, rois, offset, *options)
    if hasattr(layer, "mask_fc"):
        found = found * layer.mask_fc(plain.flatten(1)).reshape(-1, 1, *layer.output_size)
    return found


def _bins(height: int, width: int) -> Tensor:
    """[h, w, 2]: column and row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], 2)
