"""SABL's `BucketingBBoxCoder`: the position of each side is classified into buckets."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor


def decode(
    coder: Any, boxes: Tensor, regression: tuple[Tensor, Tensor], limits: Tensor
) -> tuple[Tensor, Tensor]:
    """Decode as `bucket2bbox`: regions [N, R, 4] -> boxes [N, R, 4] and confidences [N, R].

    regression: logits and offsets of the buckets, each [N * R, 4 * B], for the sides in the order
    left, right, top, bottom, numbered inwards. limits [4] is W H W H.
    """
    side = -(-coder.num_buckets // 2)
    scores = regression[0].reshape(*boxes.shape, side).softmax(-1)
    best, place = scores.topk(2, dim=-1)
    offset = regression[1].reshape(*boxes.shape, side).gather(-1, place[..., :1]).squeeze(-1)
    centre, size = (boxes[..., :2] + boxes[..., 2:]) * 0.5, boxes[..., 2:] - boxes[..., :2]
    size = size * coder.scale_factor
    width = size / coder.num_buckets
    width = torch.stack([width, width], -1).flatten(-2)
    outer = torch.stack([centre - size * 0.5, centre + size * 0.5], -1).flatten(-2)
    inwards = boxes.new_tensor([1, -1, 1, -1])
    bucket = (place[..., 0].to(boxes.dtype) + 0.5) * width * inwards
    sides = outer + bucket - offset * width
    decoded = sides[..., [0, 2, 1, 3]]
    if coder.clip_border:
        decoded = torch.minimum(decoded.clamp(min=0), limits - 1)
    neighbours = ((place[..., 0] - place[..., 1]).abs() == 1).to(best.dtype)
    return decoded, (best[..., 0] + best[..., 1] * neighbours).mean(-1)
