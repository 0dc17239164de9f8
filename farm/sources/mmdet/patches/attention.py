"""Multi-scale deformable attention, for all levels at once, and Swin's shifted windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
from mmdet.models.backbones.swin import ShiftWindowMSA
from torch import Tensor, nn

from farm.sources.mmdet.compat import replaced, replaced_everywhere
from farm.sources.mmdet.patches.sampling import lines


def attention(
    value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:  # fmt: skip
    """Compute mmcv's CPU attention without its Python loop over the levels' sizes.

    value [N, pixels of all levels, heads, C]; value_spatial_shapes int64 [levels, 2] of height and
    width; sampling_locations [N, queries, heads, levels, points, 2], x and y relative to the map;
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
def patch_deform_attention(opset: int) -> Iterator[None]:
    """Make multi-scale deformable attention trace to `attention`."""
    original, name = multi_scale_deformable_attn_pytorch, "multi_scale_deformable_attn_pytorch"
    with replaced_everywhere(original, name, attention):
        yield


def _attention(block: Any, query: Tensor, hw_shape: tuple[int, int]) -> Tensor:
    """`ShiftWindowMSA.forward`; query [N, h * w, C].

    mmdet's own fixes the batch, decides by the traced size whether to crop the padding, and fills
    its mask region by region.
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
    """Splits [N, h, w, C] into windows: [N * windows, size * size, C]."""
    channels = x.shape[3]
    x = x.view(-1, rows // size, size, columns // size, size, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)


def _mask(rows: int, columns: int, size: int, shift: int) -> Tensor:
    """[windows, size * size, size * size]: -100 between cells that only the shift made adjacent."""
    down, across = (_regions(extent, size, shift) for extent in (rows, columns))
    region = (3 * down.unsqueeze(1) + across).reshape(1, rows, columns, 1)
    region = _windows(region, rows, columns, size).squeeze(2)
    apart = region.unsqueeze(1) != region.unsqueeze(2)
    return apart.to(torch.float32) * -100.0


def _regions(extent: int, size: int, shift: int) -> Tensor:
    """0 before the last window, 1 in it, and 2 for the cells that the shift moved to the end."""
    place = torch.arange(extent)
    return (place >= extent - size).long() + (place >= extent - shift).long()


@contextmanager
def patch_shifted_windows(opset: int) -> Iterator[None]:
    """Make shifted windows trace to a graph for every height, width and batch size."""
    with replaced(ShiftWindowMSA, "forward", _attention):
        yield


def unflatten(values: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Compute torch's `unflatten`: split the axis `dim` into axes of `sizes`."""
    place, shape = dim % values.dim(), values.shape
    return values.reshape(*shape[:place], *sizes, *shape[place + 1 :])


@contextmanager
def patch_unflatten(opset: int) -> Iterator[None]:
    """Make attention trace to sizes that stay dynamic, at every opset."""
    with replaced(Tensor, "unflatten", unflatten):
        yield
