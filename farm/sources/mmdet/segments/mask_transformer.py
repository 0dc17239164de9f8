"""MaskFormer and Mask2Former: each query predicts a class and a mask over the full image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
import torch
from mmdet.models import dense_heads
from mmdet.models.detectors import MaskFormer
from mmdet.models.seg_heads.panoptic_fusion_heads import MaskFormerFusionHead
from torch import Tensor, nn

from farm.sources.mmdet.candidates import Candidates, select_rows
from farm.sources.mmdet.parts import packed, require, require_test_path
from farm.sources.mmdet.queries import best
from farm.sources.mmdet.segments import mask_heads

Read = Callable[[Any, list[Tensor]], tuple[Tensor, Tensor]]
"""head, features -> logits [N, Q, classes + 1] and mask logits [N, Q, h, w] of the last layer."""

READERS: dict[type, tuple[Callable[[Any], None], Read]] = {
    dense_heads.MaskFormerHead: (mask_heads.check_maskformer, mask_heads.maskformer_predictions),
    dense_heads.Mask2FormerHead: (mask_heads.check_mask2former, mask_heads.mask2former_predictions),
}
"""Check and reader for a head's class, looked up along the MRO.

A check raises ValueError for parts that are not known here."""


class MaskTransformer(nn.Module):
    """images float32 [N, 3, H, W] -> dets, labels, masks [N, K, h, w]; see `graphs.graph`.

    Boxes are zeros, masks are logits. Scores are the class scores only: mmdet multiplies them by
    the mean probability inside the mask at the original image's size, which is computed after the
    engine (`detections.masks`).
    """

    mask_frame = "queries"
    mask_threshold = 0.0
    how = None

    def __init__(self, model: Any) -> None:
        super().__init__()
        require_test_path(model, MaskFormer)
        fusion, head = model.panoptic_fusion_head, model.panoptic_head
        require(fusion, MaskFormerFusionHead, ("simple_test", "instance_postprocess"))
        if not fusion.test_cfg.get("instance_on", False):
            raise ValueError(
                f"{type(model).__name__} gives panoptic results only here; for its instances add"
                " `model.test_cfg.instance_on: true` and `model.test_cfg.panoptic_on: false`"
                " to cfg_options"
            )
        check, self.read = _reader(head)
        check(head)
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Select the best pairs of query and class: `MaskFormerFusionHead.instance_postprocess`."""
        fusion = self.model.panoptic_fusion_head
        logits, masks = self.read(self.model.panoptic_head, self.model.extract_feat(images))
        scores = logits.softmax(-1)[..., :-1]
        scores, query, labels = best(scores, fusion.test_cfg.get("max_per_image", 100))
        if fusion.num_stuff_classes:  # mmdet drops stuff after selection
            things = labels < fusion.num_things_classes
            scores, order = torch.where(things, scores, torch.zeros_like(scores)).sort(1, True)
            query, labels = query.gather(1, order), labels.gather(1, order)
        boxes = torch.zeros_like(scores).unsqueeze(2).expand(-1, -1, 4)
        return *packed(Candidates(boxes, scores, labels)), select_rows(masks, query)


def _reader(head: Any) -> tuple[Callable[[Any], None], Read]:
    """Raises ValueError for a head that is not known here or overrides mmdet's methods."""
    base = next((kind for kind in type(head).__mro__ if kind in READERS), None)
    if base is None:
        raise ValueError(f"head {type(head).__name__} cannot be exported yet")
    require(head, base, ("forward", "simple_test"))
    return READERS[base]
