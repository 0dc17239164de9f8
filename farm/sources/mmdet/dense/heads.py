"""Dense heads by what they predict: anchors, distributions, points, sides, scores and boxes."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models.dense_heads import TOODHead
from torch import Tensor

from farm.sources.mmdet.candidates import POOL, Candidates, best_pairs, join, rows, take
from farm.sources.mmdet.dense import levels
from farm.sources.mmdet.dense.coders import centre, decode, priors
from farm.sources.mmdet.dense.levels import best
from farm.sources.mmdet.two_stage import buckets


def anchors(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`BaseDenseHead._get_bboxes_single`: per level the best pairs of prior and class.

    Where a head has a factor for the scores (the centreness of FCOS, the IoU of DDOD), it is
    multiplied in after the pairs are chosen by score alone. mmdet's own `onnx_export` chooses
    by the product, and holds the product against `score_thr`: it loses boxes of low centreness,
    and takes in others.
    """
    places = priors(head, outs[0])
    factors = outs[2] if len(outs) > 2 else [None] * len(places)
    levels = zip(outs[0], outs[1], factors, places, strict=True)
    return join([_anchor_level(head, *level, limits) for level in levels])


def _anchor_level(
    head: Any, logits: Tensor, deltas: Tensor, factor: Tensor | None, priors: Tensor, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    scores = found.scores
    if factor is not None:
        scores = scores * rows(factor, 1).flatten(1).gather(1, found.prior).sigmoid()
    deltas = take(rows(deltas, 4), found.prior)
    return Candidates(
        decode(head.bbox_coder, priors[found.prior], deltas, limits), scores, found.label
    )


def gfl(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`GFLHead._get_bboxes_single`: distances in strides, from the anchors' centres."""
    strides = [stride for stride, _ in head.prior_generator.strides]
    levels = zip(outs[0], outs[1], priors(head, outs[0]), strides, strict=True)
    return join([_distribution_level(head, *level, limits) for level in levels])


def _distribution_level(
    head: Any, logits: Tensor, sides: Tensor, priors: Tensor, stride: int, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    sides = take(rows(sides, 4 * (head.reg_max + 1)), found.prior)
    distances = head.integral(sides).view_as(sides[..., :4]) * stride
    boxes = decode(head.bbox_coder, centre(priors)[found.prior], distances, limits)
    return Candidates(boxes, found.scores, found.label)


def fovea(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`FoveaHead._get_bboxes_single`; boxes are clipped to the last pixel, W - 1 and H - 1."""
    levels = zip(outs[0], outs[1], priors(head, outs[0]), head.base_edge_list, strict=True)
    return join([_fovea_level(head, *level, limits) for level in levels])


def _fovea_level(
    head: Any, logits: Tensor, deltas: Tensor, points: Tensor, edge: int, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    sides = take(rows(deltas, 4), found.prior).exp() * edge
    points = points[found.prior]
    boxes = torch.cat([points - sides[..., :2], points + sides[..., 2:]], -1)
    return Candidates(torch.minimum(boxes.clamp(min=0), limits - 1), found.scores, found.label)


def reppoints(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`RepPointsHead._get_bboxes_single`: boxes are clipped to the network's input."""
    levels = zip(outs[0], outs[1], priors(head, outs[0]), head.point_strides, strict=True)
    return join([_points_level(head, *level, limits) for level in levels])


def _points_level(
    head: Any, logits: Tensor, boxes: Tensor, points: Tensor, stride: int, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    boxes = take(rows(boxes, 4), found.prior) * stride + points[found.prior].repeat(1, 1, 2)
    return Candidates(torch.minimum(boxes.clamp(min=0), limits), found.scores, found.label)


def sabl(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`SABLRetinaHead._get_bboxes_single`, from one square per place."""
    sizes = [logits.shape[-2:] for logits in outs[0]]
    squares = head.square_anchor_generator.grid_priors(sizes, device=outs[0][0].device)
    levels = zip(outs[0], outs[1], squares, strict=True)
    return join([_sides_level(head, *level, limits) for level in levels])


def _sides_level(
    head: Any, logits: Tensor, regression: tuple[Tensor, Tensor], squares: Tensor, limits: Tensor
) -> Candidates:
    found = best(head, logits)
    classes, offsets = (take(rows(part, 4 * head.side_num), found.prior) for part in regression)
    boxes, sure = buckets.decode(head.bbox_coder, squares[found.prior], (classes, offsets), limits)
    return Candidates(boxes, found.scores * sure, found.label)


def check(head: Any) -> None:
    """Raises ValueError where its boxes are made by a rule that is not known here."""
    levels.check(head)
    for rule in ("forward", "deform_sampling", "anchor_center"):
        if getattr(type(head), rule) is not getattr(TOODHead, rule):
            raise ValueError(f"head {type(head).__name__} has its own {rule}, which is not known")


def tood(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`TOODHead._get_bboxes_single`: boxes in strides, clipped nowhere."""
    strides = [stride for stride, _ in head.prior_generator.strides]
    parts = zip(outs[0], outs[1], strides, strict=True)
    return join([_tood_level(head, *part) for part in parts])


def _tood_level(head: Any, scores: Tensor, boxes: Tensor, stride: int) -> Candidates:
    found = levels.best(head, scores, activated=True)
    boxes = take(rows(boxes, 4), found.prior) * stride
    return Candidates(boxes, found.scores, found.label)


def yolox(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`YOLOXHead.get_bboxes`: the best class per prior, score times objectness >= `score_thr`.

    The best of the probabilities, not of the logits: where several round to 1, the first counts.
    """
    places = torch.cat(priors(head, outs[0], with_stride=True))
    logits = torch.cat([rows(level, head.cls_out_channels) for level in outs[0]], 1)
    deltas = torch.cat([rows(level, 4) for level in outs[1]], 1)
    objectness = torch.cat([rows(level, 1) for level in outs[2]], 1)[..., 0].sigmoid()
    best, label = logits.sigmoid().max(2)
    scores = best * objectness
    scores = torch.where(scores >= head.test_cfg.score_thr, scores, torch.zeros_like(scores))
    return Candidates(head._bbox_decode(places, deltas), scores, label)


def yolov3(head: Any, outs: tuple[Any, ...], limits: Tensor) -> Candidates:
    """`YOLOV3Head.get_bboxes`: class and objectness over their thresholds; the product."""
    features = outs[0]
    levels = zip(features, priors(head, features), head.featmap_strides, strict=True)
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
