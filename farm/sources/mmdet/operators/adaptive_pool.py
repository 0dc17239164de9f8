"""Adaptive max pooling to a traced size, which ONNX has no operator for, as gathers and maxima."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced


def adaptive_max_pool2d(values: Tensor, output_size: Any) -> Tensor:
    """As torch's, of [N, C, H, W], from one level of a pyramid to a coarser one.

    Levels halve, rounded up, so that the ratio of traced sizes, rounded up to a power of two, is
    that of all sizes. (Which holds from two rows and two columns of the coarser level on.)
    """
    for dim, size in zip((2, 3), output_size, strict=True):
        values = _along(values, dim, size)
    return values


def _along(values: Tensor, dim: int, size: Any) -> Tensor:
    """Place i is the maximum from floor(i * extent / size) to ceil((i + 1) * extent / size)."""
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
    """The most places that one maximum is over."""
    ratio = -(-extent // size)
    return (1 << (ratio - 1).bit_length()) + 1


@contextmanager
def swap(opset: int) -> Iterator[None]:
    """`torch.nn.functional.adaptive_max_pool2d` traces to gathers, at every opset."""
    with replaced(torch.nn.functional, "adaptive_max_pool2d", adaptive_max_pool2d):
        yield
