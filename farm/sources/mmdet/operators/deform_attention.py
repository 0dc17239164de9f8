"""Multi-scale deformable attention: all levels at once, by gathers, at every opset and size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced_everywhere
from farm.sources.mmdet.operators.sampling import lines


def attention(
    value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:  # fmt: skip
    """mmcv's own for the CPU, without its Python loop over the sizes of the levels.

    value [N, pixels of all levels, heads, C]; value_spatial_shapes int64 [levels, 2] of height and
    width; sampling_locations [N, queries, heads, levels, points, 2], x and y in parts of the map;
    attention_weights [N, queries, heads, levels, points]. Returns [N, queries, heads * C].
    """
    images, pixels, heads, channels = value.shape
    queries, samples = sampling_locations.shape[1], attention_weights[0, 0, 0].numel()
    height, width = value_spatial_shapes[:, :1], value_spatial_shapes[:, 1:]
    area = height * width
    image = torch.arange(images, device=value.device).view(-1, 1, 1, 1, 1) * pixels
    head = torch.arange(heads, device=value.device).view(-1, 1, 1)
    first = (image + area.cumsum(0) - area) * heads + head
    x = sampling_locations[..., 0] * width.to(value.dtype) - 0.5
    y = sampling_locations[..., 1] * height.to(value.dtype) - 0.5
    columns, rows = lines(x, width), lines(y, height)
    vectors = value.reshape(-1, channels)
    found = value.new_zeros(())
    for row in rows:
        start, weight = row.index * (width * heads) + first, row.weight * attention_weights
        for column in columns:
            index = (start + column.index * heads).flatten()
            seen = vectors.index_select(0, index).view(-1, samples, channels)
            found = found + (weight * column.weight).reshape(-1, 1, samples) @ seen
    return found.reshape(images, queries, -1)


@contextmanager
def swap(opset: int) -> Iterator[None]:
    original, name = multi_scale_deformable_attn_pytorch, "multi_scale_deformable_attn_pytorch"
    with replaced_everywhere(original, name, attention):
        yield
