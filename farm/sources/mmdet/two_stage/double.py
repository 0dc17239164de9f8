"""`DoubleHeadRoIHead`: regression uses a larger region than classification."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from mmdet.models.roi_heads import bbox_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, suppression
from farm.sources.mmdet.two_stage import standard
from farm.sources.mmdet.two_stage.boxes import final
from farm.sources.mmdet.two_stage.masks import masks
from farm.sources.mmdet.two_stage.parts import require
from farm.sources.mmdet.two_stage.pooling import pool


def check(head: Any) -> None:
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    standard.check(head, roi_heads.DoubleHeadRoIHead)
    require(head.bbox_head, bbox_heads.DoubleConvFCBBoxHead, ("forward",))


def run(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor | None]:
    """Return the final boxes, and their masks [N, K, m, m] where there is a mask head."""
    pooled = [
        pool(head.bbox_roi_extractor, features, found.boxes, scale)
        for scale in (None, head.reg_roi_scale_factor)
    ]
    if head.with_shared_head:
        pooled = [head.shared_head(part) for part in pooled]
    logits, deltas = head.bbox_head(*pooled)
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = final(head.bbox_head, head.test_cfg, found, logits, deltas, limits, how)
    return found, masks(head, features, found) if head.with_mask else None
