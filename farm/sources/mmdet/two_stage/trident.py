"""`TridentRoIHead`: the boxes of branches that see the image at different scales, merged."""

from __future__ import annotations

from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates, suppress, suppression
from farm.sources.mmdet.two_stage import standard
from farm.sources.mmdet.two_stage.boxes import detections
from farm.sources.mmdet.two_stage.parts import require


def check(head: Any) -> None:
    """Raises ValueError where a part of it follows rules that are not known here."""
    standard.check(head, roi_heads.TridentRoIHead)
    require(head, roi_heads.TridentRoIHead, ("merge_trident_bboxes",))
    if head.with_mask:
        raise ValueError("TridentRoIHead with a mask head: mmdet itself ignores it")


def run(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, None]:
    """The final boxes; what comes in has branches * images in its first axis, by branch.

    mmdet takes them to be by image, which is the same for one image and mixes up several.
    """
    how = suppression(head.test_cfg, head.test_cfg.max_per_img)
    found = detections(head, features, found, limits, how)
    branches = head.num_branch if head.test_branch_idx == -1 else 1
    if branches > 1:
        boxes, scores, labels = (
            part.reshape(branches, -1, *part.shape[1:]).transpose(0, 1).flatten(1, 2)
            for part in (found.boxes, found.scores, found.labels)
        )
        found = suppress(Candidates(boxes, scores, labels), how)
    return found, None
