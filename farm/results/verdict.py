"""The verdict on an engine: thresholds of the matrix applied to verify's raw pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.config.schema import LimitsSpec
from farm.results import arrays


@dataclass(frozen=True)
class Agreement:
    """How an engine's boxes agree with PyTorch's, over boxes that either side scores enough.

    Differences are over matched pairs; None where there is no pair.
    """

    boxes: int
    added: int
    matched_fraction: float | None
    max_score_diff: float | None
    max_box_diff_px: float | None
    min_mask_iou: float | None
    reason: str | None


@dataclass(frozen=True)
class RawAgreement:
    """How raw outputs agree, over all of them; None where one cannot be compared at all."""

    max_abs_diff: float | None
    max_rel_diff: float | None
    cosine: float | None
    reason: str | None


def judge_raw(raw_file: Path, limits: LimitsSpec) -> RawAgreement:
    """`raw_agreement` of what `verify` left. Raises OSError or ValueError for a torn file."""
    return raw_agreement(arrays.raw(raw_file), limits)


def raw_agreement(found: Mapping[str, npt.NDArray[Any]], limits: LimitsSpec) -> RawAgreement:
    """The worst output, held against `max_rel_diff`.

    found: the columns of `detections.raw.Differences`, by name.
    """
    names, relative = found["name"], found["max_rel_diff"]
    absolute, cosine = found["max_abs_diff"], found["cosine"]
    reason: str | None = None
    if (lost := np.isnan(relative)).any():
        reason = f"output {names[lost][0]} is missing, of another shape, or not finite"
        return RawAgreement(None, None, None, reason)
    worst = int(relative.argmax())
    if relative[worst] > limits.max_rel_diff:
        reason = (
            f"output {names[worst]} differs by {relative[worst]:.3g} of its largest value, "
            f"at most {limits.max_rel_diff:g} allowed"
        )
    return RawAgreement(
        _finite(absolute.max()), _finite(relative[worst]), _finite(cosine.min()), reason
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def judge(pairs_file: Path, limits: LimitsSpec) -> Agreement:
    """`agreement` of the pairs that `verify` left. Raises OSError or ValueError for a torn file."""
    return agreement(arrays.pairs(pairs_file), limits)


def agreement(pairs: Mapping[str, npt.NDArray[np.float32]], limits: LimitsSpec) -> Agreement:
    """`reason` is None for the same detector, else the first threshold that does not hold.

    pairs: the columns of `detections.matching.Pairs`, by name.

    A pair counts if either side's score reaches `min_score`, a box alone if its own does. So a
    score that slips from just above it to just below is a small difference, not a lost box.
    """
    reference, engine = pairs["reference_score"], pairs["engine_score"]
    iou, box_diff, mask_iou = pairs["iou"], pairs["box_diff_px"], pairs["mask_iou"]
    # NaN (that side has no box) is never >=.
    counted = (reference >= limits.min_score) | (engine >= limits.min_score)
    matched = counted & (iou >= limits.min_iou) & np.isfinite(reference + engine + box_diff)
    added = int((counted & np.isnan(reference)).sum())
    boxes = int(counted.sum())
    # Masks with scores of their own; pairs kept before there were any lack the column.
    own = pairs.get("mask_score_diff", np.full_like(iou, np.nan))
    score_diffs = np.fmax(np.abs(reference - engine), own)
    score_diff = score_diffs[matched]
    masks = mask_iou[matched & np.isfinite(mask_iou)]
    found = Agreement(
        boxes=boxes,
        added=added,
        matched_fraction=float(matched.sum() / boxes) if boxes else None,
        max_score_diff=float(score_diff.max()) if len(score_diff) else None,
        max_box_diff_px=float(box_diff[matched].max()) if len(score_diff) else None,
        min_mask_iou=float(masks.min()) if len(masks) else None,
        reason=None,
    )
    if limits.per_box:
        within = matched & (score_diffs <= limits.max_score_diff)
        within &= box_diff <= limits.max_box_diff_px
        within &= ~(mask_iou < limits.min_mask_iou)  # NaN where there are no masks
        return replace(found, reason=_too_few(int(within.sum()), found, limits))
    return replace(found, reason=_reason(found, limits))


def _too_few(within: int, found: Agreement, limits: LimitsSpec) -> str | None:
    if not found.boxes:
        return _reason(found, limits)
    if (fraction := within / found.boxes) >= limits.min_matched_fraction:
        return None
    return (
        f"{fraction:.3f} of {found.boxes} boxes agree (scores within {limits.max_score_diff:g}, "
        f"boxes within {limits.max_box_diff_px:g} px and IoU {limits.min_iou:g}), "
        f"expected {limits.min_matched_fraction:g}"
    )


def _reason(found: Agreement, limits: LimitsSpec) -> str | None:
    if found.matched_fraction is None:
        return f"no box scores {limits.min_score} or more: nothing to compare"
    if found.matched_fraction < limits.min_matched_fraction:
        return (
            f"matched {found.matched_fraction:.4f} of {found.boxes} boxes "
            f"({found.added} added), expected {limits.min_matched_fraction}"
        )
    checks = (
        ("scores differ by", found.max_score_diff, limits.max_score_diff, ""),
        ("boxes differ by", found.max_box_diff_px, limits.max_box_diff_px, " px"),
    )
    for words, value, limit, unit in checks:
        if value is not None and value > limit:
            return f"{words} {value:.3g}{unit}, at most {limit:g}{unit} allowed"
    if found.min_mask_iou is not None and found.min_mask_iou < limits.min_mask_iou:
        return f"masks overlap by {found.min_mask_iou:.3f}, expected {limits.min_mask_iou:g}"
    return None
