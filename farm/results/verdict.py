"""Judge an engine by what `verify` left in the store, under the tolerance of the matrix."""

from __future__ import annotations

from pathlib import Path

from farm.detections.compare import Agreement, RawAgreement, agreement, raw_agreement
from farm.results import arrays
from farm.specs import Tolerance


def judge(pairs_file: Path, tolerance: Tolerance) -> Agreement:
    """Judge the pairs of boxes in this file. Raises OSError or ValueError for a torn file."""
    return agreement(arrays.pairs(pairs_file), tolerance)


def judge_raw(raw_file: Path, tolerance: Tolerance) -> RawAgreement:
    """Judge the raw outputs in this file. Raises OSError or ValueError for a torn file."""
    return raw_agreement(arrays.raw(raw_file), tolerance)
