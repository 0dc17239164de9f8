"""`CascadeRPNHead`: anchors are refined in stages, and features are aligned to the anchors."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.dense_heads.cascade_rpn_head import CascadeRPNHead, StageCascadeRPNHead
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, rows, suppression
from farm.sources.mmdet.dense.coders import decode, priors
from farm.sources.mmdet.two_stage.parts import require, require_plain_coder
from farm.sources.mmdet.two_stage.proposals import from_levels

_RULES = ("forward", "anchor_offset", "get_bboxes", "_get_bboxes_single", "refine_bboxes")


def check(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, CascadeRPNHead, ("simple_test_rpn",))
    for stage in head.stages:
        require(stage, StageCascadeRPNHead, _RULES)
        require_plain_coder(stage)
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def proposals(head: Any, features: list[Tensor], limits: Tensor) -> Candidates:
    """Return the proposals of each image, best first; unused rows have score 0."""
    images = features[0].shape[0]
    anchors = [level.expand(images, -1, -1) for level in priors(head.stages[0], features)]
    for stage in head.stages:
        offsets = _offsets(stage, features, anchors)
        features, logits, deltas = stage(features, offsets)
        if stage is not head.stages[-1]:
            anchors = [
                decode(stage.bbox_coder, anchor, rows(delta, 4), limits)
                for anchor, delta in zip(anchors, deltas, strict=True)
            ]
    return from_levels(head.stages[-1], logits, deltas, anchors, limits)


def _offsets(stage: Any, features: list[Tensor], anchors: list[Tensor]) -> list[Tensor] | None:
    if stage.adapt_cfg["type"] != "offset":
        return None
    levels = zip(features, anchors, stage.anchor_strides, strict=True)
    return [_offset(*level) for level in levels]


def _offset(feature: Tensor, anchors: Tensor, stride: int) -> Tensor:
    """`anchor_offset`: offsets from each cell's 3x3 neighbourhood to its anchor's grid.

    Returns [N, A, 18] with A = h * w, in cells, y before x.
    """
    height, width = feature.shape[-2:]
    x = torch.arange(width, device=feature.device).unsqueeze(0).expand(height, -1).flatten()
    y = torch.arange(height, device=feature.device).unsqueeze(1).expand(-1, width).flatten()
    own = torch.stack([y, x], 1).to(anchors.dtype)
    centre = (anchors[..., :2] + anchors[..., 2:]) * 0.5 / stride
    growth = (anchors[..., 2:] - anchors[..., :2]) / stride / 2 - 1
    taps = torch.arange(-1, 2, device=feature.device, dtype=anchors.dtype)
    taps = torch.stack([taps.repeat_interleave(3), taps.repeat(3)], 1)
    shift = centre[..., [1, 0]] - own
    return (growth[..., [1, 0]].unsqueeze(2) * taps + shift.unsqueeze(2)).flatten(2)
