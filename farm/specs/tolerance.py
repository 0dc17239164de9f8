"""When an engine counts as the same detector as the reference."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How far an engine's answers may be from the reference's.

    min_score: boxes that one side scores at least so are compared. min_iou: from which two boxes
    are a match. min_matched_fraction: of the boxes compared. max_score_diff, max_box_diff_px,
    min_mask_iou: of every match; min_mean_mask_iou: of the matches' masks on average.
    max_rel_diff: of raw outputs, the largest difference over the tensor's largest value.
    per_box: a match beyond a limit counts as none, where otherwise it makes another detector.
    """

    min_score: float = 0.3
    min_iou: float = 0.9
    min_matched_fraction: float = 0.99
    max_score_diff: float = 1e-3
    max_box_diff_px: float = 1.0
    min_mask_iou: float = 0.9
    min_mean_mask_iou: float = 0.0
    max_rel_diff: float = 1e-3
    per_box: bool = False
