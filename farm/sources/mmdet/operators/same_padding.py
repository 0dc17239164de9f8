"""Padding up to whole strides, as TensorFlow's "same": it follows the size that the graph is given.

mmdet's and mmcv's own take the padding of the traced size for every size. Sizes are integers to
the reader, and tensors while they are traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmdet.models.utils.transformer import AdaptivePadding
from torch import Tensor, nn

from farm.sources.mmdet.operators.replaced import replaced


def padded(x: Tensor, part: Any, corner: bool = False) -> Tensor:
    """[N, C, h, w] with zeros for the kernel, stride and dilation of `part`.

    corner: all of them below and on the right, instead of half on either side.
    """
    sizes = zip(x.shape[-2:], part.kernel_size, part.stride, part.dilation, strict=True)
    down, across = (_missing(*size) for size in sizes)
    before = (0, 0) if corner else (across // 2, down // 2)
    ends = [before[0], across - before[0], before[1], down - before[1]]
    return nn.functional.pad(x, ends)


def _missing(extent: Any, kernel: int, stride: int, dilation: int) -> Any:
    steps = (extent + stride - 1) // stride - 1
    missing = torch.as_tensor(steps * stride + (kernel - 1) * dilation + 1 - extent)
    return torch.where(missing > 0, missing, torch.zeros_like(missing))


def _adaptive(padding: Any, x: Tensor) -> Tensor:
    return padded(x, padding, corner=padding.padding == "corner")


def _convolved(convolution: Any, x: Tensor) -> Tensor:
    return convolution._conv_forward(padded(x, convolution), convolution.weight, convolution.bias)


@contextmanager
def swap(opset: int) -> Iterator[None]:
    """Padding traces to arithmetic on the size."""
    adaptive = replaced(AdaptivePadding, "forward", _adaptive)
    with adaptive, replaced(Conv2dAdaptivePadding, "forward", _convolved):
        yield
