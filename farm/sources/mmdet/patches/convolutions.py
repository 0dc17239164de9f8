"""Special convolutions: masked, with TensorFlow's padding, DyHead's, VFNet's and TOOD's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmcv.ops import MaskedConv2d
from mmdet.core import distance2bbox, multi_apply
from mmdet.models.dense_heads import GuidedAnchorHead, TOODHead, VFNetHead, tood_head
from mmdet.models.necks.dyhead import DyDCNv2
from mmdet.models.utils.transformer import AdaptivePadding
from torch import Tensor, nn

from farm.sources.mmdet.compat import replaced


def masked_conv2d(
    features: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Compute mmcv's `masked_conv2d`: zero where the mask [1 or N, h, w] is not above 0."""
    found = F.conv2d(features, weight, bias, stride, padding)
    return found * (mask > 0).unsqueeze(1).to(found.dtype)


_forward = GuidedAnchorHead.forward


def _plain(layer: Any, features: Tensor, mask: Tensor | None = None) -> Tensor:
    return super(MaskedConv2d, layer).forward(features)


def guided(head: Any, features: Any) -> tuple[list[Tensor], ...]:
    """Compute `GuidedAnchorHead.forward` for any batch: each image is masked by its own mask."""
    with replaced(MaskedConv2d, "forward", _plain):
        scores, deltas, shapes, places = _forward(head, features)
    masks = [(place.sigmoid() >= head.loc_filter_thr).to(place.dtype) for place in places]
    scores = [score * mask for score, mask in zip(scores, masks, strict=True)]
    deltas = [delta * mask for delta, mask in zip(deltas, masks, strict=True)]
    return scores, deltas, shapes, places


def padded(x: Tensor, part: Any, corner: bool = False) -> Tensor:
    """Pad [N, C, h, w] with zeros for the kernel, stride and dilation of `part`.

    corner: put all padding below and on the right, instead of half on either side.
    """
    down, across = _missing(x, part, 0), _missing(x, part, 1)
    before = (0, 0) if corner else (across // 2, down // 2)
    ends = [before[0], across - before[0], before[1], down - before[1]]
    never = all(isinstance(end, int) and not end for end in ends)  # a traced 0 may differ elsewhere
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
def patch_same_padding(opset: int) -> Iterator[None]:
    """Make padding trace to arithmetic on the size."""
    adaptive = replaced(AdaptivePadding, "forward", _adaptive)
    with adaptive, replaced(Conv2dAdaptivePadding, "forward", _convolved):
        yield


def _dyhead_forward(layer: Any, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    """`DyDCNv2.forward`: x [N, C, h, w] with offsets and masks predicted for another level.

    A coarser level, with a quarter of the area, is convolved with the offsets of the finer level.
    mmcv's kernel reads only as many offsets as it has output positions, from the start of memory.
    """
    (down, right), (top, left) = layer.conv.stride, layer.conv.padding
    (high, wide), (tall, broad) = layer.conv.kernel_size, layer.conv.dilation
    size = (
        _places(x.shape[2], high, down, top, tall),
        _places(x.shape[3], wide, right, left, broad),
    )
    x = layer.conv(x, _first(offset, *size), _first(mask, *size))
    return layer.norm(x) if layer.with_norm else x


def _places(extent: Any, kernel: int, stride: int, padding: int, dilation: int) -> Any:
    """The number of output positions of a convolution along an axis of `extent` pixels."""
    return (extent + (2 * padding - dilation * (kernel - 1) - 1)) // stride + 1


def _first(values: Tensor, height: Any, width: Any) -> Tensor:
    """The first values in the memory of [N, C, h, w], as [N, C, height, width]."""
    batch, channels = values.shape[:2]
    flat = values.flatten(1)[:, : channels * height * width]
    return flat.reshape(batch, channels, height, width)


@contextmanager
def patch_dyhead(opset: int) -> Iterator[None]:
    """Make DyHead's convolutions trace for every size."""
    with replaced(DyDCNv2, "forward", _dyhead_forward):
        yield


def star(head: Any, sides: Tensor, gradient: float, stride: int) -> Tensor:
    """Compute `VFNetHead.star_dcn_offset`: offsets to corners, edges and centre of each box.

    sides [N, 4, h, w]: distances of the sides left, up, right and down, in pixels. Returns
    [N, 18, h, w], y and x alternating, in strides.
    """
    left, up, right, down = (sides / stride).split(1, 1)
    rows, columns = (-up, torch.zeros_like(up), down), (-left, torch.zeros_like(left), right)
    places = [shift for y in rows for x in columns for shift in (y, x)]
    return torch.cat(places, 1) - head.dcn_base_offset.type_as(sides)


@contextmanager
def patch_vfnet(opset: int) -> Iterator[None]:
    """Replace VFNet's offsets by `star`, which needs far fewer nodes."""
    with replaced(VFNetHead, "star_dcn_offset", star):
        yield


def _tood_forward(head: Any, features: list[Tensor]) -> Any:
    """`TOODHead.forward`: per level scores [N, classes, h, w] and boxes [N, 4, h, w] in strides."""
    return multi_apply(partial(_level, head), range(len(features)), features, head.scales)


def _level(head: Any, level: int, feature: Tensor, scale: Any) -> tuple[Tensor, Tensor]:
    shared = []
    for layer in head.inter_convs:
        feature = layer(feature)
        shared.append(feature)
    joined = torch.cat(shared, 1)
    mean = F.adaptive_avg_pool2d(joined, (1, 1))
    logits = head.tood_cls(head.cls_decomp(joined, mean))
    # mmdet's autograd function has the same value, but ONNX has no symbolic for its own gradient.
    scores = (logits.sigmoid() * head.cls_prob_module(joined).sigmoid()).sqrt()
    boxes = _decoded(head, level, scale, head.tood_reg(head.reg_decomp(joined, mean)))
    # Each side of a box is sampled at a predicted position of its own, near the cell.
    ones = torch.ones(4, 1, 1, 1, device=boxes.device)
    moved = tood_head.deform_conv2d(
        boxes.contiguous(), head.reg_offset_module(joined).contiguous(), ones, 1, 0, 1, 4, 4
    )
    crossed = (moved[:, 0:1] > moved[:, 2:3]) | (moved[:, 1:2] > moved[:, 3:4])
    return scores, torch.where(crossed, boxes, moved)


def _decoded(head: Any, level: int, scale: Any, sides: Tensor) -> Tensor:
    """Boxes [N, 4, h, w] in strides, decoded from the prediction for each anchor."""
    stride, size = head.prior_generator.strides[level][0], sides.shape[-2:]
    anchors = head.prior_generator.single_level_grid_priors(size, level, device=sides.device)
    free = head.anchor_type == "anchor_free"
    sides = scale(sides.exp() if free else sides).permute(0, 2, 3, 1).flatten(1, 2)
    anchors = anchors.unsqueeze(0).expand(sides.shape[0], -1, -1)
    if free:
        boxes = distance2bbox((anchors[..., :2] + anchors[..., 2:]) / 2 / stride, sides)
    else:
        boxes = head.bbox_coder.decode(anchors, sides) / stride
    return boxes.transpose(1, 2).reshape(sides.shape[0], 4, size[0], size[1])


@contextmanager
def patch_tood(opset: int) -> Iterator[None]:
    """Replace the forward of TOOD's head by one that can be exported."""
    with replaced(TOODHead, "forward", _tood_forward):
        yield
