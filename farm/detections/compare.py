"""Compare an engine's answers with the reference's under a tolerance: is it the same detector?

Takes the raw numbers that `matching` and `raw` make, so that another tolerance runs nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from farm.detections import Detections
    from farm.specs import Tolerance

Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Agreement:
    """How an engine's boxes agree with the reference's, over boxes that either side scores enough.

    lost, added: boxes that only the reference or only the engine has; moved: pairs that overlap
    too little. Differences are over matches; None where there is none. reason: the first limit
    that does not hold; None for the same detector.
    """

    boxes: int
    matched: int
    lost: int
    added: int
    moved: int
    matched_fraction: float | None
    max_score_diff: float | None
    max_box_diff_px: float | None
    min_mask_iou: float | None
    mean_mask_iou: float | None
    reason: str | None = None


@dataclass(frozen=True)
class RawAgreement:
    """How raw outputs agree, over all of them; None where one cannot be compared at all."""

    max_abs_diff: float | None
    max_rel_diff: float | None
    cosine: float | None
    reason: str | None


def compare(
    references: Sequence[Detections], engines: Sequence[Detections], tolerance: Tolerance
) -> Agreement:
    """Match the boxes of each image and compare all pairs together."""
    from farm.detections.matching import match  # its pycocotools: results read files without it

    return agreement(vars(match(references, engines)), tolerance)


def agreement(pairs: Columns, tolerance: Tolerance) -> Agreement:
    """Apply the tolerance to pairs of boxes: the columns of `detections.matching.Pairs`, by name.

    A pair counts if either side's score reaches `min_score`, a box alone if its own does. So a
    score that slips from just above it to just below is a small difference, not a lost box.
    """
    reference, engine = pairs["reference_score"], pairs["engine_score"]
    iou, box_diff, mask_iou = pairs["iou"], pairs["box_diff_px"], pairs["mask_iou"]
    # NaN (that side has no box) is never >=.
    counted = (reference >= tolerance.min_score) | (engine >= tolerance.min_score)
    paired = counted & np.isfinite(reference + engine + box_diff)
    matched = paired & (iou >= tolerance.min_iou)
    # Masks with scores of their own; pairs kept before there were any lack the column.
    own = pairs.get("mask_score_diff", np.full_like(iou, np.nan))
    score_diffs = np.fmax(np.abs(reference - engine), own)
    masks = mask_iou[matched & np.isfinite(mask_iou)]
    boxes, matches = int(counted.sum()), int(matched.sum())
    found = Agreement(
        boxes=boxes,
        matched=matches,
        lost=int((counted & np.isnan(engine)).sum()),
        added=int((counted & np.isnan(reference)).sum()),
        moved=int((paired & ~matched).sum()),
        matched_fraction=float(matches / boxes) if boxes else None,
        max_score_diff=float(score_diffs[matched].max()) if matches else None,
        max_box_diff_px=float(box_diff[matched].max()) if matches else None,
        min_mask_iou=float(masks.min()) if len(masks) else None,
        mean_mask_iou=float(masks.mean()) if len(masks) else None,
    )
    if tolerance.per_box and boxes:
        within = matched & (score_diffs <= tolerance.max_score_diff)
        within &= box_diff <= tolerance.max_box_diff_px
        within &= ~(mask_iou < tolerance.min_mask_iou)  # NaN where there are no masks
        return replace(found, reason=_too_few(int(within.sum()), boxes, tolerance))
    return replace(found, reason=_reason(found, tolerance))


def _too_few(within: int, boxes: int, tolerance: Tolerance) -> str | None:
    if (fraction := within / boxes) >= tolerance.min_matched_fraction:
        return None
    return (
        f"{fraction:.3f} of {boxes} boxes agree (scores within {tolerance.max_score_diff:g}, "
        f"boxes within {tolerance.max_box_diff_px:g} px and IoU {tolerance.min_iou:g}), "
        f"expected {tolerance.min_matched_fraction:g}"
    )


def _reason(found: Agreement, tolerance: Tolerance) -> str | None:
    if found.matched_fraction is None:
        return f"no box scores {tolerance.min_score} or more: nothing to compare"
    if found.matched_fraction < tolerance.min_matched_fraction:
        return (
            f"matched {found.matched_fraction:.4f} of {found.boxes} boxes "
            f"({found.added} added), expected {tolerance.min_matched_fraction}"
        )
    largest = (
        ("scores", found.max_score_diff, tolerance.max_score_diff, ""),
        ("boxes", found.max_box_diff_px, tolerance.max_box_diff_px, " px"),
    )
    for what, value, limit, unit in largest:
        if value is not None and value > limit:
            return f"{what} differ by {value:.3g}{unit}, at most {limit:g}{unit} allowed"
    overlaps = (
        (found.min_mask_iou, tolerance.min_mask_iou, ""),
        (found.mean_mask_iou, tolerance.min_mean_mask_iou, " on average"),
    )
    for value, limit, how in overlaps:
        if value is not None and value < limit:
            return f"masks overlap by {value:.3f}{how}, expected {limit:g}"
    return None


def raw_agreement(differences: Columns, tolerance: Tolerance) -> RawAgreement:
    """Apply the tolerance to the worst raw output by `max_rel_diff`.

    differences: the columns of `detections.raw.Differences`, by name.
    """
    names, relative = differences["name"], differences["max_rel_diff"]
    absolute, cosine = differences["max_abs_diff"], differences["cosine"]
    reason: str | None = None
    if (lost := np.isnan(relative)).any():
        reason = f"output {names[lost][0]} is missing, of another shape, or not finite"
        return RawAgreement(None, None, None, reason)
    worst = int(relative.argmax())
    if relative[worst] > tolerance.max_rel_diff:
        reason = (
            f"output {names[worst]} differs by {relative[worst]:.3g} of its largest value, "
            f"at most {tolerance.max_rel_diff:g} allowed"
        )
    return RawAgreement(
        _finite(absolute.max()), _finite(relative[worst]), _finite(cosine.min()), reason
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
