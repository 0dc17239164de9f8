"""Query detectors: a fixed set of queries, each predicting an object or none; no suppression.

Here are DETR, a transformer over the last feature map, and the functions that others share with it.
"""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from mmdet.models.detectors import DETR
from torch import Tensor, nn

from farm.sources.mmdet.candidates import Candidates, take
from farm.sources.mmdet.parts import limits, packed, require, require_test_path

_RULES = (
    "forward", "forward_single", "get_bboxes", "_get_bboxes_single", "simple_test",
    "simple_test_bboxes",
)  # fmt: skip


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return score, query and class, each [N, count], of the best of [N, queries, classes].

    `count` is fixed by the head and independent of the image, unlike in `candidates.best_pairs`.
    """
    classes = scores.shape[2]
    values, index = scores.flatten(1).topk(count, dim=1)
    row = torch.div(index, classes, rounding_mode="trunc")
    return values, row, index - row * classes


def corners(boxes: Tensor) -> Tensor:
    """Convert boxes [.., 4] from centre and size to x1 y1 x2 y2, rounding as mmdet does."""
    centre, half = boxes[..., :2], 0.5 * boxes[..., 2:]
    return torch.cat([centre - half, centre + half], -1)


def detections(head: Any, logits: Tensor, boxes: Tensor, size: Tensor) -> Candidates:
    """Select detections as `DETRHead._get_bboxes_single`.

    logits [N, Q, C]; boxes [N, Q, 4] as centre and size, relative to size [4], which is W H W H in
    pixels and to which the boxes are scaled and clipped.
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


class Detr(nn.Module):
    """images float32 [N, 3, H, W] -> dets [N, K, 5], labels int64 [N, K]; see `graphs.graph`.

    The full input counts as image: mmdet masks the padding in the transformer, but an exported
    graph has no information on padding.
    """

    how = None
    clips_boxes = True

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, DETR)
        require(model.bbox_head, dense_heads.DETRHead, _RULES)
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        head, size = self.model.bbox_head, limits(images)
        queries = self._queries(head, self.model.extract_feat(images)[-1])
        logits = head.fc_cls(queries)
        boxes = head.fc_reg(head.activate(head.reg_ffn(queries))).sigmoid()
        return packed(detections(head, logits, boxes, size))

    @staticmethod
    def _queries(head: Any, feature: Tensor) -> Tensor:
        """`DETRHead.forward_single` up to its branches: [N, queries, C] of the last layer."""
        feature = head.input_proj(feature)
        padding = torch.zeros_like(feature[:, 0], dtype=torch.bool)
        positions = head.positional_encoding(padding)
        embedding = head.query_embedding.weight
        return head.transformer(feature, padding, embedding, positions)[0][-1]
