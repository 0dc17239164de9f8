"""`grid_sample`: ONNX's GridSample from opset 16 on, gathers below."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced
from farm.sources.mmdet.operators.sampling import bilinear, extent, nearest


def grid_sample(
    input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:  # fmt: skip
    """torch's own, for images: input [N, C, H, W], grid [N, h, w, 2] of x, y in -1..1.

    Raises:
        ValueError: a mode that is not written here.
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
def swap(opset: int) -> Iterator[None]:
    """Below 16 torch's exporter has no grid_sample; from there on its GridSample is right."""
    if opset >= 16:
        yield
        return
    with replaced(F, "grid_sample", grid_sample):
        yield
