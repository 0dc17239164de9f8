"""Two-stage detectors: proposals, then what their RoI head makes of them.

A new kind of RoI head is one file and one line in `ROI_HEADS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import roi_heads
from torch import Tensor

from farm.sources.mmdet.candidates import Candidates
from farm.sources.mmdet.two_stage import proposals, standard

__all__ = ["RoiHead", "check", "proposals", "roi_head"]


@dataclass(frozen=True)
class RoiHead:
    """How one kind of RoI head is read.

    check(head) raises ValueError, with the part and the reason, where it cannot be exported.
    run(head, features, proposals, limits [4]) returns the final boxes, the masks [N, K, m, m] where
    the head has them (else None), and the masks' scores [N, K] where it has `mask_scores`.
    clips_boxes: see `graphs.clips_boxes`.
    """

    check: Callable[[Any], None]
    run: Callable[
        [Any, list[Tensor], Candidates, Tensor],
        tuple[Candidates, Tensor | None] | tuple[Candidates, Tensor, Tensor],
    ]
    mask_scores: bool = False
    clips_boxes: bool | None = None


ROI_HEADS: dict[type, RoiHead] = {
    roi_heads.StandardRoIHead: RoiHead(standard.check, standard.run),
}
"""By class, looked up along the MRO; each `check` refuses subclasses with rules of their own."""


def roi_head(model: Any) -> RoiHead:
    """Raises ValueError for a kind that is not known here."""
    kind = type(model.roi_head)
    known = next((ROI_HEADS[base] for base in kind.__mro__ if base in ROI_HEADS), None)
    if known is None:
        raise ValueError(f"RoI head {kind.__name__} cannot be exported yet")
    return known


def check(model: Any) -> None:
    """Raises ValueError where a part of the model follows rules that are not known here."""
    proposals.check(model.rpn_head)
    roi_head(model).check(model.roi_head)
