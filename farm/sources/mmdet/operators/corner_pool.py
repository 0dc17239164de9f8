"""Corner pooling: a running maximum, which ONNX has no operator for, by doubling shifts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops import CornerPool
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced

STEPS = 11
"""Doublings, so that maps of up to 2048 rows and columns are right, whatever size was traced."""


def running_max(values: Tensor, dim: int, backward: bool = False) -> Tensor:
    """`torch.cummax(values, dim)[0]`, or from the end; exact for extents up to 2 ** STEPS.

    After step k each place holds the maximum of the 2 ** k places up to it. A shift beyond the
    extent leaves all as it is: its slices are empty.
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
def swap(opset: int) -> Iterator[None]:
    """`CornerPool` traces to slices and maxima, at every opset."""
    with replaced(CornerPool, "forward", _forward):
        yield
