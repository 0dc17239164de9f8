"""Decodes dense heads: anchor-based, anchor-free, with distributions, points or buckets."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.dense_heads import TOODHead
from torch import Tensor

from farm.sources.mmdet.candidates import POOL, Candidates, best_pairs, join, rows, take
from farm.sources.mmdet.dense import coders
from farm.sources.mmdet.dense.coders import centre, decode, level_priors
from farm.sources.mmdet.dense.pairs import best_of_level, require_limits


def anchors(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `BaseDenseHead._get_bboxes_single`: the best pairs of prior and class per level.

    A head's factor for the scores (the centreness of FCOS, the IoU of DDOD) is multiplied in after
    the pairs are selected by class score alone. mmdet's own `onnx_export` selects by the product
    and compares the product with `score_thr`: it loses boxes of low centreness and keeps others
    instead.
    """
    places = level_priors(head, outs[0])
    factors = outs[2] if len(outs) > 2 else [None] * len(places)
    levels = zip(outs[0], outs[1], factors, places, strict=True)
    return join([_anchor_level(head, *level, limits) for level in levels])


def _anchor_level(
    head: Any, logits: Tensor, deltas: Tensor, factor: Tensor | None, priors: Tensor, limits: Tensor
) -> Candidates:
    found = best_of_level(head, logits)
    scores = found.scores
    if factor is not None:
        scores = scores * rows(factor, 1).flatten(1).gather(1, found.prior).sigmoid()
    deltas = take(rows(deltas, 4), found.prior)
    return Candidates(
        decode(head.bbox_coder, priors[found.prior], deltas, limits), scores, found.label
    )


def gfl(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `GFLHead._get_bboxes_single`: distances in strides from the anchors' centres."""
    strides = [stride for stride, _ in head.prior_generator.strides]
    levels = zip(outs[0], outs[1], level_priors(head, outs[0]), strides, strict=True)
    return join([_distribution_level(head, *level, limits) for level in levels])


def _distribution_level(
    head: Any, logits: Tensor, sides: Tensor, priors: Tensor, stride: int, limits: Tensor
) -> Candidates:
    found = best_of_level(head, logits)
    sides = take(rows(sides, 4 * (head.reg_max + 1)), found.prior)
    distances = head.integral(sides).view_as(sides[..., :4]) * stride
    boxes = decode(head.bbox_coder, centre(priors)[found.prior], distances, limits)
    return Candidates(boxes, found.scores, found.label)


def fovea(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `FoveaHead._get_bboxes_single`; boxes are clipped to W - 1 and H - 1."""
    levels = zip(outs[0], outs[1], level_priors(head, outs[0]), head.base_edge_list, strict=True)
    return join([_fovea_level(head, *level, limits) for level in levels])


def _fovea_level(
    head: Any, logits: Tensor, deltas: Tensor, points: Tensor, edge: int, limits: Tensor
) -> Candidates:
    found = best_of_level(head, logits)
    sides = take(rows(deltas, 4), found.prior).exp() * edge
    points = points[found.prior]
    boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)
    return Candidates(torch.minimum(boxes.clamp(min=0), limits - 1), found.scores, found.label)


def reppoints(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `RepPointsHead._get_bboxes_single`; boxes are clipped to the network's input."""
    levels = zip(outs[0], outs[1], level_priors(head, outs[0]), head.point_strides, strict=True)
    return join([_points_level(head, *level, limits) for level in levels])


def _points_level(
    head: Any, logits: Tensor, boxes: Tensor, points: Tensor, stride: int, limits: Tensor
) -> Candidates:
    found = best_of_level(head, logits)
    boxes = take(rows(boxes, 4), found.prior) * stride + points[found.prior].repeat(1, 1, 2)
    return Candidates(torch.minimum(boxes.clamp(min=0), limits), found.scores, found.label)


def sabl(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `SABLRetinaHead._get_bboxes_single`, from one square per cell."""
    sizes = [logits.shape[-2:] for logits in outs[0]]
    squares = head.square_anchor_generator.grid_priors(sizes, device=outs[0][0].device)
    levels = zip(outs[0], outs[1], squares, strict=True)
    return join([_sides_level(head, *level, limits) for level in levels])


def _sides_level(
    head: Any, logits: Tensor, regression: tuple[Tensor, Tensor], squares: Tensor, limits: Tensor
) -> Candidates:
    found = best_of_level(head, logits)
    classes, offsets = (take(rows(part, 4 * head.side_num), found.prior) for part in regression)
    boxes, sure = coders.decode_buckets(
        head.bbox_coder, squares[found.prior], (classes, offsets), limits
    )
    return Candidates(boxes, found.scores * sure, found.label)


def check(head: Any) -> None:
    """Check that the head computes boxes as mmdet's own does.

    Raises:
        ValueError: it overrides a method.
    """
    require_limits(head)
    for rule in ("forward", "deform_sampling", "anchor_center"):
        if getattr(type(head), rule) is not getattr(TOODHead, rule):
            raise ValueError(f"head {type(head).__name__} has its own {rule}, which is not known")


def tood(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `TOODHead._get_bboxes_single`: boxes in strides, never clipped."""
    strides = [stride for stride, _ in head.prior_generator.strides]
    parts = zip(outs[0], outs[1], strides, strict=True)
    return join([_tood_level(head, *part) for part in parts])


def _tood_level(head: Any, scores: Tensor, boxes: Tensor, stride: int) -> Candidates:
    found = best_of_level(head, scores, activated=True)
    boxes = take(rows(boxes, 4), found.prior) * stride
    return Candidates(boxes, found.scores, found.label)


def yolox(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `YOLOXHead.get_bboxes`: the best class per prior, with its score times objectness.

    The product must be at least `score_thr`. The best class is found among probabilities, not
    logits: where several round to 1, the first one counts.
    """
    places = torch.cat(level_priors(head, outs[0], with_stride=True))
    logits = torch.cat([rows(level, head.cls_out_channels) for level in outs[0]], 1)
    deltas = torch.cat([rows(level, 4) for level in outs[1]], 1)
    objectness = torch.cat([rows(level, 1) for level in outs[2]], 1)[..., 0].sigmoid()
    best, label = logits.sigmoid().max(2)
    scores = best * objectness
    scores = torch.where(scores >= head.test_cfg.score_thr, scores, torch.zeros_like(scores))
    return Candidates(head._bbox_decode(places, deltas), scores, label)


def yolov3(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """Decode as `YOLOV3Head.get_bboxes`: class score times objectness, both over thresholds."""
    features = outs[0]
    levels = zip(features, level_priors(head, features), head.featmap_strides, strict=True)
    boxes, predictions = zip(*(_yolov3_level(head, *level) for level in levels), strict=True)
    prediction = torch.cat(predictions, 1)
    objectness, classes = prediction[..., 4:5].sigmoid(), prediction[..., 5:].sigmoid()
    passed = classes > head.test_cfg.score_thr
    if (threshold := head.test_cfg.get("conf_thr", -1)) > 0:
        passed = passed & (objectness >= threshold)
    scores = torch.where(passed, classes * objectness, torch.zeros_like(classes))
    scores, row, label = best_pairs(scores, POOL)
    return Candidates(take(torch.cat(boxes, 1), row), scores, label)


def _yolov3_level(head: Any, feature: Tensor, places: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    prediction = rows(feature, head.num_attrib)
    deltas = torch.cat([prediction[..., :2].sigmoid(), prediction[..., 2:4]], -1)
    return head.bbox_coder.decode(places, deltas, stride), prediction
