"""Judge the random model's answers, and an engine's against them: the table's thresholds.

An export is the same detector if every box that PyTorch scores over 0.3 has its box, no box is
added, and the masks are the same. Stages keep raw numbers, so another threshold runs nothing again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from farm import specs
from farm.detections.compare import Agreement, Columns, agreement
from farm.models.records import Trial

if TYPE_CHECKING:
    from farm.detections import Detections

SAME = specs.Tolerance(
    min_iou=0.99,
    min_matched_fraction=1.0,
    max_box_diff_px=math.inf,  # the overlap says it
    # Of random masks, on their mean: one pixel at the threshold is 0.06 of a small one.
    min_mask_iou=0.0,
    min_mean_mask_iou=0.99,
)
MIN_BOXES, MIN_CLASSES, MIN_SIZE_RATIO = 20, 3, 1.5


def weights_unusable(
    answers: Sequence[Detections], classes: int, moved: Iterable[Columns]
) -> str | None:
    """Return why a comparison with these weights would show nothing; None if it would.

    answers: of the model itself, an image each. classes: how many the model has. moved: pairs of
    its detections on an image and on the same one moved by 2e-7, for each of a few images.
    """
    return _little_to_compare(answers, classes) or _unstable(moved)


def _little_to_compare(answers: Sequence[Detections], classes: int) -> str | None:
    """Return what is missing of twenty boxes, some classes, and sizes that differ by half."""
    kept = [one.boxes[one.scores > SAME.min_score] for one in answers]
    most, boxes = max(map(len, kept)), np.concatenate(kept)
    labels = np.concatenate([one.labels[one.scores > SAME.min_score] for one in answers])
    found = len(set(labels.tolist()))
    if most < MIN_BOXES or found < min(MIN_CLASSES, classes):
        return f"the random weights find {most} boxes of {found} classes: nothing to compare"
    edges = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    small, large = np.percentile(edges, [5, 95])
    if large < MIN_SIZE_RATIO * small:
        return f"the random weights find boxes of {small:.0f} to {large:.0f} px: one size"
    return None


def _unstable(moved: Iterable[Columns]) -> str | None:
    """Return how much answers change with the last digits of an image; None if they do not.

    Where they do, an engine that sums in another order is as right as PyTorch.
    """
    for pairs in moved:
        trial = with_agreement(Trial(opset=0, kind="", runtime=""), agreement(pairs, SAME))
        if trial.reason or trial.score_diff > SAME.max_score_diff / 2:
            reason = trial.reason or f"scores differ by {trial.score_diff:.1e}"
            return f"the random weights are chaotic: with an image moved by 2e-7, {reason}"
    return None


def with_agreement(trial: Trial, found: Agreement) -> Trial:
    """Return `trial` with an agreement added; its `reason` says which tolerance is exceeded."""
    return replace(
        trial,
        reason=_reason(found) if found.reason and found.boxes else None,
        boxes=trial.boxes + found.matched,
        score_diff=max(trial.score_diff, found.max_score_diff or 0.0),
        box_diff_px=max(trial.box_diff_px, found.max_box_diff_px or 0.0),
        mask_iou=min(
            (x for x in (found.mean_mask_iou, trial.mask_iou) if x is not None), default=None
        ),
    )


def _reason(found: Agreement) -> str:
    """Return the reason as the table's records state it."""
    if found.lost or found.added or found.moved:
        return (
            f"of {found.boxes} boxes {found.lost} are lost, {found.added} added, {found.moved}"
            f" overlap less than {SAME.min_iou}"
        )
    if found.max_score_diff is not None and found.max_score_diff > SAME.max_score_diff:
        return f"scores differ by {found.max_score_diff:.1e}"
    return f"masks overlap by {found.mean_mask_iou:.3f} on average"
