"""TOOD's head for any batch: mmdet repeats its anchors by a Python loop over the images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
import torch.nn.functional as F
from mmdet.core import distance2bbox, multi_apply
from mmdet.models.dense_heads import TOODHead, tood_head
from torch import Tensor

from farm.sources.mmdet.operators.replaced import replaced


def forward(head: Any, features: list[Tensor]) -> Any:
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
    # mmdet's function of its own has the same value, and a gradient that ONNX has no word for.
    scores = (logits.sigmoid() * head.cls_prob_module(joined).sigmoid()).sqrt()
    boxes = _decoded(head, level, scale, head.tood_reg(head.reg_decomp(joined, mean)))
    # Each side of a box is read off at a place of its own near by.
    ones = torch.ones(4, 1, 1, 1, device=boxes.device)
    moved = tood_head.deform_conv2d(
        boxes.contiguous(), head.reg_offset_module(joined).contiguous(), ones, 1, 0, 1, 4, 4
    )
    crossed = (moved[:, 0:1] > moved[:, 2:3]) | (moved[:, 1:2] > moved[:, 3:4])
    return scores, torch.where(crossed, boxes, moved)


def _decoded(head: Any, level: int, scale: Any, sides: Tensor) -> Tensor:
    """Boxes [N, 4, h, w] in strides, of what is predicted for each anchor."""
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
def swap(opset: int) -> Iterator[None]:
    with replaced(TOODHead, "forward", forward):
        yield
