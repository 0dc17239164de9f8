"""Two-stage detectors: proposals, and detections of the RoI head from these.

A new kind of RoI head is two functions and one line in `ROI_HEADS`; of RPN head, in `RPN_HEADS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from farm.sources.mmdet import compat  # noqa: F401

# isort: split
from mmdet.models import dense_heads, roi_heads
from torch import Tensor

from farm.sources.mmdet.parts import require_binary_masks
from farm.sources.mmdet.two_stage import cascade, proposals, regions, standard

if TYPE_CHECKING:
    from farm.sources.mmdet.candidates import Candidates

__all__ = ["RoiHead", "RpnHead", "check", "roi_head", "rpn_head"]


_Head = TypeVar("_Head")


@dataclass(frozen=True)
class RoiHead:
    """How one kind of RoI head is run.

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


@dataclass(frozen=True)
class RpnHead:
    """How one kind of RPN head is run.

    check(head) raises ValueError, with the part and the reason, where it cannot be exported.
    run(head, features, limits [4]) returns the proposals of each image, best first.
    """

    check: Callable[[Any], None]
    run: Callable[[Any, list[Tensor], Tensor], Candidates]


RPN_HEADS: dict[type, RpnHead] = {
    dense_heads.RPNHead: RpnHead(proposals.check_rpn, proposals.rpn_proposals),
    dense_heads.CascadeRPNHead: RpnHead(proposals.check_cascade_rpn, proposals.cascade_proposals),
    dense_heads.GARPNHead: RpnHead(proposals.check_guided_rpn, proposals.guided_proposals),
}

ROI_HEADS: dict[type, RoiHead] = {
    roi_heads.StandardRoIHead: RoiHead(standard.check_standard, standard.run_standard),
    roi_heads.GridRoIHead: RoiHead(standard.check_grid, standard.run_grid, clips_boxes=False),
    roi_heads.MaskScoringRoIHead: RoiHead(
        standard.check_scoring, standard.run_scoring, mask_scores=True
    ),
    roi_heads.PointRendRoIHead: RoiHead(regions.check_point_rend, regions.run_point_rend),
    roi_heads.PISARoIHead: RoiHead(standard.check_pisa, standard.run_standard),
    roi_heads.DoubleHeadRoIHead: RoiHead(standard.check_double, standard.run_double),
    roi_heads.TridentRoIHead: RoiHead(standard.check_trident, standard.run_trident),
    roi_heads.CascadeRoIHead: RoiHead(cascade.check_cascade, cascade.run_cascade),
    roi_heads.HybridTaskCascadeRoIHead: RoiHead(cascade.check_htc, cascade.run_htc),
    roi_heads.SCNetRoIHead: RoiHead(cascade.check_scnet, cascade.run_scnet),
}
"""Heads by class, looked up along the MRO; each `check` refuses subclasses that compute otherwise.
"""


def rpn_head(model: Any) -> RpnHead:
    """Return how the model's RPN head is run.

    Raises:
        ValueError: its kind is not known here, or the model has none.
    """
    if not model.with_rpn:
        name = type(model).__name__
        raise ValueError(f"{name} takes its proposals from outside, and a graph takes images alone")
    return _known(model.rpn_head, RPN_HEADS, "RPN")


def roi_head(model: Any) -> RoiHead:
    """Return how the model's RoI head is run.

    Raises:
        ValueError: its kind is not known here.
    """
    return _known(model.roi_head, ROI_HEADS, "RoI")


def check(model: Any) -> None:
    """Check that all parts of the model can be exported.

    Raises:
        ValueError: one cannot; the message names it.
    """
    rpn_head(model).check(model.rpn_head)
    roi_head(model).check(model.roi_head)
    if model.roi_head.with_mask:
        require_binary_masks(model.roi_head)


def _known(head: Any, known: dict[type, _Head], what: str) -> _Head:
    kind = type(head)
    found = next((known[base] for base in kind.__mro__ if base in known), None)
    if found is None:
        raise ValueError(f"{what} head {kind.__name__} cannot be exported yet")
    return found
