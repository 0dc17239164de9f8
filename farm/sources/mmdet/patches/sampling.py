"""Bilinear sampling by gathers, at every opset; grid_sample and CARAFE (arXiv 1905.02188)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
import torch.nn.functional as F
from mmdet.models.necks import FPN_CARAFE
from torch import Tensor

from farm.sources.mmdet.compat import replaced


@dataclass(frozen=True)
class Line:
    """The rows, or columns, of samples: their indices (int64) and weights."""

    index: Tensor
    weight: Tensor


def extent(values: Tensor, dim: int) -> Tensor:
    """Return the size of an axis as a traced tensor, int64 []."""
    return torch._shape_as_tensor(values)[dim]


def bilinear(image: Tensor, y: Tensor, x: Tensor, factor: Tensor | None = None) -> Tensor:
    """Sample image [N, C, H, W] at y, x [N, P, G] in pixels (0: the first's centre), zero outside.

    The channels form G groups, each with its own sample positions. `factor` [N, P, G] scales the
    samples. Returns [N, P, C].
    """
    rows = lines(y, extent(image, 2))
    if factor is not None:
        rows = [Line(row.index, row.weight * factor) for row in rows]
    return _sampled(image, rows, lines(x, extent(image, 3)))


def nearest(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Sample as `bilinear`, but the nearest pixel (halves are rounded to even)."""
    one = torch.ones_like(y)
    rows, columns = _line(y.round(), one, extent(image, 2)), _line(x.round(), one, extent(image, 3))
    return _sampled(image, [rows], [columns])


def lines(place: Tensor, extent: Tensor) -> list[Line]:
    """Return the two rows, or columns, around `place`; those outside 0..extent - 1 weigh 0."""
    low = place.floor()
    share = place - low
    return [_line(low, 1 - share, extent), _line(low + 1, share, extent)]


def _line(place: Tensor, weight: Tensor, extent: Tensor) -> Line:
    last = (extent - 1).to(place.dtype)
    kept = torch.minimum(place.clamp(min=0), last)
    return Line(kept.long(), weight * (kept == place).to(weight.dtype))


def _sampled(image: Tensor, rows: list[Line], columns: list[Line]) -> Tensor:
    """The weighted sum of the pixels at all pairs of a row and a column: [N, P, C]."""
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


def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """Compute torch's `grid_sample`: input [N, C, H, W], grid [N, h, w, 2] of x, y in -1..1.

    Raises:
        ValueError: a mode that is not implemented here.
    """
    if mode not in ("bilinear", "nearest") or padding_mode not in ("zeros", "border"):
        raise ValueError(f"grid_sample with {mode}, {padding_mode} cannot be exported below 16")
    places = grid.reshape(grid.shape[0], -1, 2)
    x = _pixels(places[..., 0:1], extent(input, 3), bool(align_corners))
    y = _pixels(places[..., 1:2], extent(input, 2), bool(align_corners))
    if padding_mode == "border":
        x, y = _within(x, extent(input, 3)), _within(y, extent(input, 2))
    found = (bilinear if mode == "bilinear" else nearest)(input, y, x)
    return found.transpose(1, 2).reshape(grid.shape[0], -1, grid.shape[1], grid.shape[2])


def _pixels(place: Tensor, extent: Tensor, align_corners: bool) -> Tensor:
    size = extent.to(place.dtype)
    if align_corners:
        return (place + 1) / 2 * (size - 1)
    return ((place + 1) * size - 1) / 2


def _within(place: Tensor, extent: Tensor) -> Tensor:
    return torch.minimum(place.clamp(min=0), (extent - 1).to(place.dtype))


@contextmanager
def patch_grid_sample(opset: int) -> Iterator[None]:
    """Replace `grid_sample` below opset 16, where torch's exporter has none."""
    if opset >= 16:
        yield
        return
    with replaced(F, "grid_sample", grid_sample):
        yield


def carafe(
    features: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> Tensor:
    """Compute mmcv's `carafe` as a sum, over kernel positions, of shifted features times masks.

    features [N, C, h, w]; masks [N, groups * K, h * s, w * s] for K kernel positions and the
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
    """A slice that is as long as the map without its padding, at any size."""
    return slice(start, start - 2 * reach or None)


def patch_carafe(opset: int) -> AbstractContextManager[None]:
    """Make CARAFE's pyramid crop the coarser level at every size.

    mmdet's own decides at the traced size whether to crop.
    """
    return replaced(FPN_CARAFE, "tensor_add", _sum)


def _sum(neck: Any, fine: Tensor, coarse: Tensor) -> Tensor:
    return fine + coarse[:, :, : fine.shape[2], : fine.shape[3]]
