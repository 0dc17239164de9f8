"""Apply the tolerances of a matrix to the differences that `verify` recorded."""

from __future__ import annotations

from pathlib import Path

from farm.detections.compare import Agreement, RawAgreement, agreement, raw_agreement
from farm.results import arrays
from farm.specs import Tolerance


def read_agreement(pairs_file: Path, tolerance: Tolerance) -> Agreement:
    """Compare the pairs of boxes in this file. Raises OSError or ValueError for a damaged file."""
    return agreement(arrays.pairs(pairs_file), tolerance)


def read_raw_agreement(raw_file: Path, tolerance: Tolerance) -> RawAgreement:
    """Compare the raw outputs in this file. Raises OSError or ValueError for a damaged file."""
    return raw_agreement(arrays.raw(raw_file), tolerance)
