"""Bilinear sampling of feature maps as gathers of whole rows of channels, at every opset.

Rows, because a gather of single elements needs an index as large as its result. Sizes stay traced
tensors, so that a file with dynamic axes follows them.
"""

from __future__ import annotations

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor


def extent(values: Tensor, dim: int) -> Tensor:
    """The size of an axis, traced, int64 []."""
    return torch._shape_as_tensor(values)[dim]


def bilinear(image: Tensor, y: Tensor, x: Tensor, factor: Tensor | None = None) -> Tensor:
    """image [N, C, H, W] at y, x [N, P, G] in pixels (0: the centre of the first), zero outside.

    The channels are G groups, each with places of its own. `factor` [N, P, G] scales what is
    found. Returns [N, P, C].
    """
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    result = None
    for dy, fy in ((0, 1 - down), (1, down)):
        for dx, fx in ((0, 1 - right), (1, right)):
            weight = fy * fx if factor is None else fy * fx * factor
            part = _corner(image, top + dy, left + dx, weight)
            result = part if result is None else result + part
    assert result is not None
    return result


def nearest(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """As `bilinear`, the nearest pixel (halves to the even one)."""
    return _corner(image, y.round(), x.round(), torch.ones_like(y))


def _corner(image: Tensor, y: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """`weight` times the pixel at whole y, x [N, P, G]; 0 outside. Returns [N, P, C]."""
    batch, channels, groups = image.shape[0], image.shape[1], y.shape[2]
    row, row_inside = _clamped(y, extent(image, 2))
    column, column_inside = _clamped(x, extent(image, 3))
    size = extent(image, 2) * extent(image, 3)
    first = torch.arange(batch, device=image.device).view(-1, 1, 1) * size
    index = (first + row * extent(image, 3) + column) * groups
    index = index + torch.arange(groups, device=image.device)
    rows = image.permute(0, 2, 3, 1).reshape(-1, channels // groups)
    found = rows.index_select(0, index.flatten()).view(batch, -1, groups, channels // groups)
    weight = weight * (row_inside & column_inside).to(weight.dtype)
    return (found * weight.unsqueeze(3)).flatten(2)


def _clamped(place: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
    """As an index, int64, and whether it was one."""
    last = (extent - 1).to(place.dtype)
    inside = (place >= 0) & (place <= last)
    return torch.minimum(place.clamp(min=0), last).long(), inside
