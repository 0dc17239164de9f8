"""Bilinear sampling of feature maps as gathers of whole rows of channels, at every opset.

Rows, because a gather of single elements needs an index as large as its result. Sizes stay traced
tensors, so that a file with dynamic axes follows them.
"""

from __future__ import annotations

from dataclasses import dataclass

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor


@dataclass(frozen=True)
class Line:
    """Rows, or columns, that are looked at: which (int64), and how much each counts."""

    index: Tensor
    weight: Tensor


def extent(values: Tensor, dim: int) -> Tensor:
    """The size of an axis, traced, int64 []."""
    return torch._shape_as_tensor(values)[dim]


def bilinear(image: Tensor, y: Tensor, x: Tensor, factor: Tensor | None = None) -> Tensor:
    """image [N, C, H, W] at y, x [N, P, G] in pixels (0: the centre of the first), zero outside.

    The channels are G groups, each with places of its own. `factor` [N, P, G] scales what is
    found. Returns [N, P, C].
    """
    rows = lines(y, extent(image, 2))
    if factor is not None:
        rows = [Line(row.index, row.weight * factor) for row in rows]
    return _sampled(image, rows, lines(x, extent(image, 3)))


def nearest(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """As `bilinear`, the nearest pixel (halves to the even one)."""
    one = torch.ones_like(y)
    rows, columns = _line(y.round(), one, extent(image, 2)), _line(x.round(), one, extent(image, 3))
    return _sampled(image, [rows], [columns])


def lines(place: Tensor, extent: Tensor) -> list[Line]:
    """The two rows, or columns, around `place`; those outside of 0..extent - 1 do not count."""
    low = place.floor()
    share = place - low
    return [_line(low, 1 - share, extent), _line(low + 1, share, extent)]


def _line(place: Tensor, weight: Tensor, extent: Tensor) -> Line:
    last = (extent - 1).to(place.dtype)
    kept = torch.minimum(place.clamp(min=0), last)
    return Line(kept.long(), weight * (kept == place).to(weight.dtype))


def _sampled(image: Tensor, rows: list[Line], columns: list[Line]) -> Tensor:
    """The sum of what is found where the rows and columns cross: [N, P, C]."""
    batch, channels, groups = image.shape[0], image.shape[1], rows[0].index.shape[2]
    width, size = extent(image, 3), extent(image, 2) * extent(image, 3)
    pixels = image.permute(0, 2, 3, 1).reshape(-1, channels // groups)
    group = torch.arange(groups, device=image.device)
    first = torch.arange(batch, device=image.device).view(-1, 1, 1) * (size * groups) + group
    starts = [row.index * (width * groups) + first for row in rows]
    steps = [column.index * groups for column in columns]
    found = None
    for row, start in zip(rows, starts, strict=True):
        for column, step in zip(columns, steps, strict=True):
            part = pixels.index_select(0, (start + step).flatten())
            part = part * (row.weight * column.weight).reshape(-1, 1)
            found = part if found is None else found + part
    assert found is not None
    return found.view(batch, -1, channels)
