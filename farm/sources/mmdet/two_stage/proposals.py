"""Region proposals: what the second stage looks at."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from torch import Tensor

from farm.sources.mmdet.candidates import (
    Candidates,
    decode,
    join,
    rows,
    suppress,
    suppression,
    take,
    top,
)
from farm.sources.mmdet.two_stage.parts import require, require_plain_coder


def check(head: Any) -> None:
    """Raises ValueError where it follows rules that are not known here."""
    require(head, dense_heads.RPNHead, ("get_bboxes", "_get_bboxes_single", "_bbox_post_process"))
    require_plain_coder(head)
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def proposals(head: Any, features: list[Tensor], limits: Tensor) -> Candidates:
    """The proposals of each image, best first; rows beyond the found ones have score 0.

    `RPNHead.get_bboxes`: the best `nms_pre` per level, suppressed within their level.
    """
    outs = head(features)
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    sizes = [level.shape[-2:] for level in outs[0]]
    priors = head.prior_generator.grid_priors(sizes, device=outs[0][0].device)
    levels = zip(outs[0], outs[1], priors, strict=True)
    found = join([_proposal_level(head, i, *level, limits) for i, level in enumerate(levels)])
    if (least := head.test_cfg.min_bbox_size) >= 0:
        size = found.boxes[..., 2:] - found.boxes[..., :2]
        large = (size > least).all(2)
        scores = torch.where(large, found.scores, torch.zeros_like(found.scores))
        found = Candidates(found.boxes, scores, found.labels)
    return suppress(found, how)


def _proposal_level(
    head: Any, level: int, logits: Tensor, deltas: Tensor, priors: Tensor, limits: Tensor
) -> Candidates:
    logits, deltas = rows(logits, head.cls_out_channels), rows(deltas, 4)
    scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)
    limit = head.test_cfg.get("nms_pre", -1)
    scores, index = top(scores[..., 0], limit if limit > 0 else 1 << 40)
    boxes = decode(head.bbox_coder, priors[index], take(deltas, index), limits)
    return Candidates(boxes, scores, torch.full_like(index, level))
