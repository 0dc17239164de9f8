"""`TridentRoIHead`: merges the boxes of branches with different receptive fields."""

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
    """Check that all parts of the head can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    standard.check(head, roi_heads.TridentRoIHead)
    require(head, roi_heads.TridentRoIHead, ("merge_trident_bboxes",))
    if head.with_mask:
        raise ValueError("TridentRoIHead with a mask head: mmdet itself ignores it")


def run(
    head: Any, features: list[Tensor], found: Candidates, limits: Tensor
) -> tuple[Candidates, None]:
    """Return the final boxes. The inputs' first axis is branches * images, ordered by branch.

    mmdet assumes the order by image, which is the same for one image and mixes up several.
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
