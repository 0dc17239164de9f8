"""Adaptive, corner and deformable RoI pooling, and NAS-FPN's merging of maps, for export."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
import torch.nn.functional as F
from mmcv.ops import CornerPool
from mmcv.ops.merge_cells import BaseMergeCell
from torch import Tensor

from farm.sources.mmdet.compat import replaced
from farm.sources.mmdet.patches.roi_align import RoiAlign

STEPS = 11
"""Doubling steps: enough for maps of up to 2048 rows and columns, whatever size was traced."""

_LESS = 1e-5
"""Cells subtracted from each bin, so that rounding adds no sample to bins of integer size."""

_resize = BaseMergeCell._resize


def adaptive_max_pool2d(values: Tensor, output_size: Any) -> Tensor:
    """Compute torch's `adaptive_max_pool2d` of [N, C, H, W], to a coarser level of a pyramid.

    Each level has half the size of the previous one, rounded up, so the ratio of the traced sizes,
    rounded up to a power of two, holds for all sizes. (This requires at least two rows and two
    columns in the coarser level.)
    """
    for dim, size in zip((2, 3), output_size, strict=True):
        values = _along(values, dim, size)
    return values


def _along(values: Tensor, dim: int, size: Any) -> Tensor:
    """Output i is the maximum from floor(i * extent / size) to ceil((i + 1) * extent / size)."""
    extent = values.shape[dim]
    start = torch.arange(size, device=values.device) * extent
    last = torch.div(start + (extent + size - 1), size, rounding_mode="trunc") - 1
    first = torch.div(start, size, rounding_mode="trunc")
    pooled = values.index_select(dim, first)
    for step in range(1, _window(int(extent), int(size))):
        place = torch.where(first + step < last, first + step, last)
        pooled = torch.maximum(pooled, values.index_select(dim, place))
    return pooled


def _window(extent: int, size: int) -> int:
    """The largest number of cells that one maximum covers."""
    ratio = -(-extent // size)
    return (1 << (ratio - 1).bit_length()) + 1


@contextmanager
def patch_adaptive_pool(opset: int) -> Iterator[None]:
    """Make `torch.nn.functional.adaptive_max_pool2d` trace to gathers, at every opset."""
    with replaced(torch.nn.functional, "adaptive_max_pool2d", adaptive_max_pool2d):
        yield


def running_max(values: Tensor, dim: int, backward: bool = False) -> Tensor:
    """Compute `torch.cummax(values, dim)[0]`, or from the end; exact for extents to 2 ** STEPS.

    After step k each position has the maximum of the 2 ** k positions up to it. A shift beyond the
    extent has no effect, since its slices are empty.
    """
    for step in range(STEPS):
        shift = 1 << step
        first, later = _slice(values, dim, None, -shift), _slice(values, dim, shift, None)
        larger = torch.maximum(first, later)
        if backward:
            values = torch.cat([larger, _slice(values, dim, -shift, None)], dim)
        else:
            values = torch.cat([_slice(values, dim, None, shift), larger], dim)
    return values


def _slice(values: Tensor, dim: int, start: int | None, end: int | None) -> Tensor:
    return values[(slice(None),) * dim + (slice(start, end),)]


def _forward(pool: Any, values: Tensor) -> Tensor:
    dim, backward = pool.cummax_dim_flip[pool.mode]
    return running_max(values, dim, backward)


@contextmanager
def patch_corner_pool(opset: int) -> Iterator[None]:
    """Make `CornerPool` trace to slices and maxima, at every opset."""
    with replaced(CornerPool, "forward", _forward):
        yield


def deform_roi_pool(
    input: Tensor, rois: Tensor, offset: Tensor | None, output_size: tuple[int, int],
    spatial_scale: float = 1.0, sampling_ratio: int = 0, gamma: float = 0.1,
) -> Tensor:  # fmt: skip
    """Compute mmcv's `deform_roi_pool`: bins of `aligned` boxes, shifted by `gamma * offset`.

    Offsets are relative to the box's size.

    input [N, C, H, W]; rois [R, 5]: image, x1 y1 x2 y2; offset [R, 2 (x, y), h, w] or None.
    Returns [R, C, h, w].

    Raises:
        ValueError: a fixed `sampling_ratio`; only samples by the size of the bins are supported.
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
    # RoIAlign widens a bin narrower than a cell to the right, so it is moved such that its only
    # sample, which is at its centre, keeps its position.
    start = start + (step - 1).clamp(max=0) * 0.5
    cells = torch.cat([start, start + step - _LESS], 3).reshape(-1, 4)
    images = rois[:, :1].long().expand(-1, height * width).reshape(-1)
    pooled = RoiAlign.apply(input, cells, images, 1, 1.0, 0, False)
    pooled = pooled.reshape(-1, height, width, input.shape[1]).permute(0, 3, 1, 2)
    counts = (size > 0).all(3).unsqueeze(1).to(pooled.dtype)
    return (pooled * counts).contiguous()


def pooled(layer: Any, features: Tensor, rois: Tensor) -> Tensor:
    """Pool as mmcv's layers that predict their offsets (and a mask), for any number of boxes."""
    options = layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.gamma
    plain = deform_roi_pool(features, rois, None, *options)
    offset = layer.offset_fc(plain.flatten(1)).reshape(-1, 2, *layer.output_size)
    found = deform_roi_pool(features, rois, offset, *options)
    if hasattr(layer, "mask_fc"):
        found = found * layer.mask_fc(plain.flatten(1)).reshape(-1, 1, *layer.output_size)
    return found


def _bins(height: int, width: int) -> Tensor:
    """The column and row of each bin: [h, w, 2]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], 2)


def patch_merge_cells(opset: int) -> AbstractContextManager[None]:
    """Make the cells of NAS-FPN pool with a constant kernel."""
    return replaced(BaseMergeCell, "_resize", _pooled)


def _pooled(cell: Any, feature: Tensor, size: Any) -> Tensor:
    """As mmcv's own, but with integers as pooling kernels: ONNX's kernel cannot be a tensor.

    They follow from the traced size. Between levels of a pyramid they are the same at every
    multiple of the largest stride, to which such models pad their images. At any other size the
    following additions get different shapes, and a runtime reports an error.
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
