"""The YOLO heads: class scores times an objectness."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import POOL, Candidates, best_pairs, rows, take
from farm.sources.mmdet.dense.priors import priors


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
