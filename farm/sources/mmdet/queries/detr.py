"""DETR: a transformer over the last feature map."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from mmdet.models.detectors import DETR
from torch import Tensor, nn

from farm.sources.mmdet.forms import limits, packed, require_test_path
from farm.sources.mmdet.queries.best import detections
from farm.sources.mmdet.two_stage.parts import require

_RULES = (
    "forward", "forward_single", "get_bboxes", "_get_bboxes_single", "simple_test",
    "simple_test_bboxes",
)  # fmt: skip


class Detr(nn.Module):
    """images float32 [N, 3, H, W] -> dets [N, K, 5], labels int64 [N, K]; see `graphs.graph`.

    The whole input counts as image: mmdet hides the padding from the transformer, which a graph
    knows nothing of.
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
