"""How far a value of an engine is from the reference's, as one number and as a text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """relative: of numbers, the largest difference over the reference's largest finite value, as
    `verify` compares raw outputs; infinite where integers, shapes or what is finite differ.
    text: the same for people."""

    relative: float
    text: str


def difference(reference: Array, engine: Array) -> Difference:
    """Compare two arrays; integers and truth values must be equal."""
    if reference.shape != engine.shape:
        return _unlike(f"has the shape {[*engine.shape]}, expected {[*reference.shape]}")
    if reference.dtype.kind != "f":
        unequal = int((reference != engine).sum())
        return _unlike(f"differs in {unequal} of {reference.size} elements") if unequal else SAME
    a, b = reference.astype(np.float64), engine.astype(np.float64)
    finite = np.isfinite(a)
    unequal = int((finite != np.isfinite(b)).sum()) or int(
        (~finite & (a != b) & ~(np.isnan(a) & np.isnan(b))).sum()
    )
    if unequal:
        return _unlike(f"differs in what is finite, in {unequal} of {a.size} elements")
    a, b = a[finite], b[finite]
    if not a.size:
        return SAME
    largest, scale = float(np.abs(a - b).max()), float(np.abs(a).max())
    if largest == 0:
        return SAME
    if scale == 0:
        return _unlike(f"differs by {largest:.2g}, where the reference has zeros only")
    return Difference(largest / scale, f"differs by {largest / scale:.2g} of its largest value")


def _unlike(text: str) -> Difference:
    return Difference(math.inf, text)


SAME = Difference(0.0, "is equal")
