"""Swin's shifted windows of attention, on maps of any size.

Sizes are integers to the reader, and tensors while they are traced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.backbones.swin import ShiftWindowMSA
from torch import Tensor, nn

from farm.sources.mmdet.operators.replaced import replaced


def _attention(block: Any, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """`ShiftWindowMSA.forward`; query [N, h * w, C].

    mmdet's own fixes the batch, decides by the traced size whether to cut the padding off again,
    and fills its mask region by region.
    """
    size, shift, channels = block.window_size, block.shift_size, block.w_msa.embed_dims
    height, width = hw_shape
    below, right = (size - height % size) % size, (size - width % size) % size
    rows, columns = height + below, width + right
    x = nn.functional.pad(
        query.view(-1, height, width, channels), (0, 0, 0, right, 0, below)
    )  # fmt: skip
    mask = None
    if shift:
        x = x.roll((-shift, -shift), (1, 2))
        mask = _mask(rows, columns, size, shift)
    x = block.w_msa(_windows(x, rows, columns, size), mask=mask)
    x = x.view(-1, rows // size, columns // size, size, size, channels)
    x = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, channels)
    if shift:
        x = x.roll((shift, shift), (1, 2))
    return block.drop(x[:, :height, :width].reshape(-1, height * width, channels))


def _windows(x: Tensor, rows: int, columns: int, size: int) -> Tensor:
    """[N, h, w, C] -> [N * windows, size * size, C]."""
    channels = x.shape[3]
    x = x.view(-1, rows // size, size, columns // size, size, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)


def _mask(rows: int, columns: int, size: int, shift: int) -> Tensor:
    """[windows, size * size, size * size]: -100 between places that the shift brought together."""
    down, across = (_regions(extent, size, shift) for extent in (rows, columns))
    region = (3 * down.unsqueeze(1) + across).reshape(1, rows, columns, 1)
    region = _windows(region, rows, columns, size).squeeze(2)
    apart = region.unsqueeze(1) != region.unsqueeze(2)
    return apart.to(torch.float32) * -100.0


def _regions(extent: int, size: int, shift: int) -> Tensor:
    """Before the last window 0, in it 1, and 2 where the shift put the first places."""
    place = torch.arange(extent)
    return (place >= extent - size).long() + (place >= extent - shift).long()


@contextmanager
def swap(opset: int) -> Iterator[None]:
    """Shifted windows trace to a graph for every height, width and batch."""
    with replaced(ShiftWindowMSA, "forward", _attention):
        yield
