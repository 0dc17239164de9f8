"""`StandardRoIHead`: one box head and optionally one mask head, as in Faster and Mask R-CNN."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, suppression
from farm.sources.mmdet.two_stage.boxes import detections
from farm.sources.mmdet.two_stage.masks import masks
from farm.sources.mmdet.two_stage.parts import (
    require,
    require_box_head,
    require_extractor,
    require_mask_head,
)


def check(head: Any, kind: type = roi_heads.StandardRoIHead) -> None:
    """Check that all parts of the head can be exported.

    kind: the class whose methods the head must not override.

    Raises:
        ValueError: one cannot; the message names it.
    """
    require(head, kind, ("simple_test", "simple_test_bboxes", "_bbox_forward"))
    require_box_head(head.bbox_head)
    require_extractor(head.bbox_roi_extractor)
    if head.with_mask:
        require_mask_head(head.mask_head)
        require_extractor(head.mask_roi_extractor)
    suppression(head.test_cfg, head.test_cfg.max_per_img)


def check_pisa(head: Any) -> None:
    """Check a `PISARoIHead` as `check` does; its own `_bbox_forward` computes the same.

    Raises:
        ValueError: as `check`.
    """
    check(head, roi_heads.PISARoIHead)


def run(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, Tensor | None]:
    """Return the final boxes, and their masks [N, K, m, m] where there is a mask head."""
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = detections(head, features, found, limits, how)
    return found, masks(head, features, found) if head.with_mask else None
