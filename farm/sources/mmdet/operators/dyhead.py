"""DyHead's convolutions: shifts of another size than the map, taken as mmcv's kernel takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models.necks.dyhead import DyDCNv2
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced


def forward(layer: Any, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    """`DyDCNv2.forward`: x [N, C, h, w] by shifts and factors predicted for another level.

    The level above, a quarter as large, is convolved with the shifts of its neighbour below.
    mmcv's kernel reads only as many as it has places, from the first on, as if they were its own.
    """
    (down, right), (top, left) = layer.conv.stride, layer.conv.padding
    (high, wide), (tall, broad) = layer.conv.kernel_size, layer.conv.dilation
    size = (
        _places(x.shape[2], high, down, top, tall),
        _places(x.shape[3], wide, right, left, broad),
    )
    x = layer.conv(x, _first(offset, *size), _first(mask, *size))
    return layer.norm(x) if layer.with_norm else x


def _places(extent: Any, kernel: int, stride: int, padding: int, dilation: int) -> Any:
    """How many places a convolution has along an axis of `extent` pixels."""
    return (extent + (2 * padding - dilation * (kernel - 1) - 1)) // stride + 1


def _first(values: Tensor, height: Any, width: Any) -> Tensor:
    """What lies first in the memory of [N, C, h, w], as [N, C, height, width]."""
    batch, channels = values.shape[:2]
    flat = values.flatten(1)[:, : channels * height * width]
    return flat.reshape(batch, channels, height, width)


@contextmanager
def swap(opset: int) -> Iterator[None]:
    with replaced(DyDCNv2, "forward", forward):
        yield
