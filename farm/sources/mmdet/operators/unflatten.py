"""`Tensor.unflatten`, which attention calls: a reshape.

torch's exporter has none below opset 13, and from there on fixes the other axes' traced sizes.
"""

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
    """Attention traces to sizes that stay free, at every opset."""
    with replaced(Tensor, "unflatten", unflatten):
        yield
