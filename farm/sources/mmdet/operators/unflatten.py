"""`Tensor.unflatten`, which attention calls: a reshape where torch's exporter has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced


def unflatten(values: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """torch's own: the axis `dim` as several, of `sizes`."""
    place, shape = dim % values.dim(), values.shape
    return values.reshape(*shape[:place], *sizes, *shape[place + 1 :])


@contextmanager
def swap(opset: int) -> Iterator[None]:
    """torch writes it from opset 13 on."""
    if opset >= 13:
        yield
        return
    with replaced(Tensor, "unflatten", unflatten):
        yield
