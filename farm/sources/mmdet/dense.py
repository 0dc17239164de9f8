"""Dense heads: from a head's raw outputs to candidates, by the rules of its own `get_bboxes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.core.bbox.coder import DeltaXYWHBBoxCoder, YOLOBBoxCoder
from mmdet.models import dense_heads
from torch import Tensor, nn

from farm.sources.mmdet.candidates import (
    Candidates,
    best_pairs,
    best_rows,
    decode,
    join,
    rows,
    take,
)

POOL = 3000
"""Pairs of prior and class that suppression starts from where mmdet takes all over the threshold.

The result is mmdet's unless more than this pass and fewer than `max_per_img` of these survive;
without it every prior would enter with every class (1.8 million boxes for YOLOv3 at 608x608).
"""

Read = Callable[[Any, tuple[Any, ...], Tensor], Candidates]


def _priors(head: Any, features: list[Tensor], **options: Any) -> list[Tensor]:
    sizes = [feature.shape[-2:] for feature in features]
    return head.prior_generator.grid_priors(sizes, device=features[0].device, **options)


def anchors(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`BaseDenseHead._get_bboxes_single`: per level the best `nms_pre` pairs over `score_thr`.

    `nms_pre: -1` takes all (up to `POOL`); mmdet drops the lowest of each level then, by a slip.
    """
    priors = _priors(head, outs[0])
    factors = outs[2] if len(outs) > 2 else [None] * len(priors)
    levels = zip(outs[0], outs[1], factors, priors, strict=True)
    return join([_anchor_level(head, *level, limits) for level in levels])


def _anchor_level(
    head: Any, logits: Tensor, deltas: Tensor, factor: Tensor | None, priors: Tensor, limits: Tensor
) -> Candidates:
    limit = head.test_cfg.get("nms_pre", -1)
    logits, deltas = rows(logits, head.cls_out_channels), rows(deltas, 4)
    # A sigmoid keeps the order, so it is computed for the chosen rows only.
    scores = logits if head.use_sigmoid_cls else logits.softmax(-1)
    chosen = best_rows(scores[..., : head.num_classes], limit) if limit > 0 else _all_rows(scores)
    # The background is cut off after the gathering: OpenVINO folds the two into an invalid one.
    scores = take(scores, chosen)[..., : head.num_classes]
    scores = scores.sigmoid() if head.use_sigmoid_cls else scores
    scores, row, label = best_pairs(scores, limit if limit > 0 else POOL)
    chosen = chosen.gather(1, row)
    scores = torch.where(scores > head.test_cfg.score_thr, scores, torch.zeros_like(scores))
    if factor is not None:
        scores = scores * rows(factor, 1).flatten(1).gather(1, chosen).sigmoid()
    boxes = decode(head.bbox_coder, priors[chosen], take(deltas, chosen), limits)
    return Candidates(boxes, scores, label)


def _all_rows(scores: Tensor) -> Tensor:
    index = torch.arange(scores.shape[1], device=scores.device)
    return index.unsqueeze(0).expand(scores.shape[0], -1)


def yolox(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`YOLOXHead.get_bboxes`: the best class per prior, score times objectness >= `score_thr`."""
    priors = torch.cat(_priors(head, outs[0], with_stride=True))
    logits = torch.cat([rows(level, head.cls_out_channels) for level in outs[0]], 1)
    deltas = torch.cat([rows(level, 4) for level in outs[1]], 1)
    objectness = torch.cat([rows(level, 1) for level in outs[2]], 1).squeeze(2).sigmoid()
    best, label = logits.max(2)
    scores = best.sigmoid() * objectness
    scores = torch.where(scores >= head.test_cfg.score_thr, scores, torch.zeros_like(scores))
    return Candidates(head._bbox_decode(priors, deltas), scores, label)


def yolov3(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`YOLOV3Head.get_bboxes`: class and objectness over their thresholds; the product."""
    features = outs[0]
    levels = zip(features, _priors(head, features), head.featmap_strides, strict=True)
    boxes, predictions = zip(*(_yolov3_level(head, *level) for level in levels), strict=True)
    prediction = torch.cat(predictions, 1)
    objectness, classes = prediction[..., 4:5].sigmoid(), prediction[..., 5:].sigmoid()
    passed = classes > head.test_cfg.score_thr
    if (threshold := head.test_cfg.get("conf_thr", -1)) > 0:
        passed = passed & (objectness >= threshold)
    scores = torch.where(passed, classes * objectness, torch.zeros_like(classes))
    scores, row, label = best_pairs(scores, POOL)
    return Candidates(take(torch.cat(boxes, 1), row), scores, label)


def _yolov3_level(head: Any, feature: Tensor, priors: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    prediction = rows(feature, head.num_attrib)
    deltas = torch.cat([prediction[..., :2].sigmoid(), prediction[..., 2:4]], -1)
    return head.bbox_coder.decode(priors, deltas, stride), prediction


READERS: dict[type, tuple[Read, type | None]] = {
    dense_heads.YOLOXHead: (yolox, None),
    dense_heads.YOLOV3Head: (yolov3, YOLOBBoxCoder),
    dense_heads.AnchorHead: (anchors, DeltaXYWHBBoxCoder),
}
"""By head class, looked up along the MRO: how its outputs are read, and the box coder it needs."""

_RULES = (
    "get_bboxes", "_get_bboxes_single", "_bbox_post_process", "_bboxes_nms", "_bbox_decode",
    "simple_test", "simple_test_bboxes",
)  # fmt: skip


def reader(head: nn.Module) -> Read:
    """The function that reads this head's outputs.

    Raises:
        ValueError: none does: a head, a rule of its own, or a box coder that is not known here.
    """
    name = type(head).__name__
    base = next((kind for kind in type(head).__mro__ if kind in READERS), None)
    if base is None:
        raise ValueError(f"head {name} cannot be exported yet")
    own = [rule for rule in _RULES if getattr(head, rule, None) is not None
           and getattr(type(head), rule) is not getattr(base, rule)]  # fmt: skip
    if own:
        raise ValueError(f"head {name} has its own {own[0]}, which cannot be exported yet")
    read, coder = READERS[base]
    if coder is not None and type(head.bbox_coder) is not coder:
        raise ValueError(f"box coder {type(head.bbox_coder).__name__} cannot be exported yet")
    return read
