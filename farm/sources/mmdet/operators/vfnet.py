"""VFNet's star of nine places, at once: mmdet writes one channel after the other into zeros."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.dense_heads import VFNetHead
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced


def star(head: Any, sides: Tensor, gradient: float, stride: int) -> Tensor:
    """`VFNetHead.star_dcn_offset`: to the corners and edges of each box, and its middle.

    sides [N, 4, h, w]: how far left, up, right and down they are, in pixels. Returns y and x in
    turn, in strides: [N, 18, h, w].
    """
    left, up, right, down = (sides / stride).split(1, 1)
    rows, columns = (-up, torch.zeros_like(up), down), (-left, torch.zeros_like(left), right)
    places = [shift for y in rows for x in columns for shift in (y, x)]
    return torch.cat(places, 1) - head.dcn_base_offset.type_as(sides)


@contextmanager
def swap(opset: int) -> Iterator[None]:
    """The same shifts in far fewer nodes."""
    with replaced(VFNetHead, "star_dcn_offset", star):
        yield
