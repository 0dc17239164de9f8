"""Priors of a dense head (anchors or points), and how its box coder decodes boxes from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.core.bbox import coder as coders
from torch import Tensor

from farm.sources.mmdet import candidates

Decode = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


def distances(coder: Any, points: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Decode as mmdet's `distance2bbox`: distances from a point to the four sides."""
    corners = [points - deltas[..., :2], points + deltas[..., 2:]]
    return clipped(coder, torch.cat(corners, -1), limits)


def heights_and_widths(coder: Any, priors: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Decode as mmdet's `tblr2bboxes`: distances to the sides, relative to the prior's size."""
    deltas = deltas * deltas.new_tensor(coder.normalizer)
    size = priors[..., 2:] - priors[..., :2]
    vertical, horizontal = size[..., 1:] * deltas[..., :2], size[..., :1] * deltas[..., 2:]
    before = torch.cat([horizontal[..., :1], vertical[..., :1]], -1)
    after = torch.cat([horizontal[..., 1:], vertical[..., 1:]], -1)
    middle = centre(priors)
    return clipped(coder, torch.cat([middle - before, middle + after], -1), limits)


def legacy_shifts(coder: Any, priors: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Decode as `legacy_delta2bbox` of mmdet 1, where the last pixel is W - 1 or H - 1."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    size = priors[..., 2:] - priors[..., :2] + 1
    middle = centre(priors) + size * deltas[..., :2]
    half = size * deltas[..., 2:].clamp(-candidates.RATIO, candidates.RATIO).exp() * 0.5
    return torch.minimum(torch.cat([middle - half, middle + half], -1).clamp(min=0), limits - 1)


def centre(boxes: Tensor) -> Tensor:
    """Return the centres of boxes: [..., 4] -> [..., 2]."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def clipped(coder: Any, boxes: Tensor, limits: Tensor) -> Tensor:
    """Clip boxes to the network's input if the coder does so."""
    return torch.minimum(boxes.clamp(min=0), limits) if coder.clip_border else boxes


DECODERS: dict[type, Decode] = {
    coders.DeltaXYWHBBoxCoder: candidates.decode,
    coders.LegacyDeltaXYWHBBoxCoder: legacy_shifts,
    coders.DistancePointBBoxCoder: distances,
    coders.TBLRBBoxCoder: heights_and_widths,
}
"""Decoder for a coder's exact class: a subclass may decode otherwise."""

KNOWN, POINTS = tuple(DECODERS), (coders.DistancePointBBoxCoder,)


def decode(coder: Any, priors: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
    """Decode boxes [..., 4] as this coder's class does."""
    return DECODERS[type(coder)](coder, priors, deltas, limits)


def clips(coder: Any) -> bool:
    """Return whether the coder clips boxes to the image; False for a head without a coder."""
    return getattr(coder, "clip_border", type(coder) is coders.LegacyDeltaXYWHBBoxCoder)


def level_priors(head: Any, features: list[Tensor], **options: Any) -> list[Tensor]:
    """Return the head's priors for each level's map."""
    sizes = [feature.shape[-2:] for feature in features]
    return head.prior_generator.grid_priors(sizes, device=features[0].device, **options)


def decode_buckets(
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
    middle, size = (boxes[..., :2] + boxes[..., 2:]) * 0.5, boxes[..., 2:] - boxes[..., :2]
    size = size * coder.scale_factor
    width = size / coder.num_buckets
    width = torch.stack([width, width], -1).flatten(-2)
    outer = torch.stack([middle - size * 0.5, middle + size * 0.5], -1).flatten(-2)
    inwards = boxes.new_tensor([1, -1, 1, -1])
    bucket = (place[..., 0].to(boxes.dtype) + 0.5) * width * inwards
    sides = outer + bucket - offset * width
    decoded = sides[..., [0, 2, 1, 3]]
    if coder.clip_border:
        decoded = torch.minimum(decoded.clamp(min=0), limits - 1)
    neighbours = ((place[..., 0] - place[..., 1]).abs() == 1).to(best.dtype)
    return decoded, (best[..., 0] + best[..., 1] * neighbours).mean(-1)
