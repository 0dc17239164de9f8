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
    down, across = _missing(x, part, 0), _missing(x, part, 1)
    before = (0, 0) if corner else (across // 2, down // 2)
    ends = [before[0], across - before[0], before[1], down - before[1]]
    never = all(isinstance(end, int) and not end for end in ends)  # a traced 0 is one of its size
    return x if never else nn.functional.pad(x, ends)


def _missing(x: Tensor, part: Any, axis: int) -> Any:
    extent, stride = x.shape[2 + axis], part.stride[axis]
    reach = (part.kernel_size[axis] - 1) * part.dilation[axis]
    if stride == 1:
        return reach  # at every size
    last = (extent + stride - 1) // stride * stride - stride
    missing = torch.as_tensor(last + reach + 1 - extent)
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
