"""What the heads of query detectors share: which queries count, and how they code boxes."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, take


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best `count` entries of [N, queries, classes]: score, query and class, each [N, count].

    Their number is that of the head and free of the image, unlike `candidates.best_pairs`'s.
    """
    classes = scores.shape[2]
    values, index = scores.flatten(1).topk(count, dim=1)
    row = torch.div(index, classes, rounding_mode="trunc")
    return values, row, index - row * classes


def corners(boxes: Tensor) -> Tensor:
    """[.., 4] as centre and size -> x1 y1 x2 y2, with mmdet's own rounding."""
    centre, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return torch.cat([centre - half, centre + half], -1)


def detections(head: Any, logits: Tensor, boxes: Tensor, size: Tensor) -> Candidates:
    """`DETRHead._get_bboxes_single` for logits [N, Q, C] and boxes [N, Q, 4] as centre and size.

    size [4]: W H W H, in which the boxes are told and to which they are cut.
    """
    count = head.test_cfg.get("max_per_img", head.num_query)
    if head.loss_cls.use_sigmoid:
        scores, row, labels = best(logits.sigmoid(), count)
    else:
        most, label = logits.softmax(-1)[..., :-1].max(-1)
        scores, row = most.topk(count, dim=1)
        labels = label.gather(1, row)
    placed = corners(take(boxes, row)) * size
    return Candidates(torch.minimum(placed.clamp(min=0), size), scores, labels)
