"""Raw outputs of an engine against the reference's: how far apart, before any threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Differences:
    """One row per batch and output; NaN where the engine has no such output, of another shape, or
    one side is not finite.

    name; max_abs_diff: the largest difference; max_rel_diff: that over the largest value of the
    reference's tensor; cosine: of the angle between the two tensors.
    """

    name: npt.NDArray[np.str_]
    max_abs_diff: npt.NDArray[np.float64]
    max_rel_diff: npt.NDArray[np.float64]
    cosine: npt.NDArray[np.float64]


def compare(references: Sequence[Outputs], engines: Sequence[Outputs]) -> Differences:
    """Rows of all batches, in order."""
    rows = [
        (name, *_row(values, engine.get(name)))
        for reference, engine in zip(references, engines, strict=True)
        for name, values in reference.items()
    ]
    names, *columns = zip(*rows, strict=True)
    return Differences(np.array(names), *(np.array(column, np.float64) for column in columns))


def _row(a: npt.NDArray[Any], b: npt.NDArray[Any] | None) -> tuple[float, float, float]:
    if b is None or a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return (float("nan"),) * 3
    if not a.size:
        return 0.0, 0.0, 1.0
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    largest, scale = float(np.abs(a - b).max()), float(np.abs(a).max())
    relative = largest / scale if scale else (0.0 if largest == 0 else float("inf"))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float(a @ b) / lengths if lengths else float(largest == 0)
    return largest, relative, cosine


def save(path: Path, batches: Sequence[Outputs]) -> None:
    """Every output of every batch, float32 or as it is, in one .npz."""
    arrays = {f"{i}.{name}": v for i, batch in enumerate(batches) for name, v in batch.items()}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> list[dict[str, npt.NDArray[Any]]]:
    """Read what `save` wrote."""
    batches: list[dict[str, npt.NDArray[Any]]] = []
    with np.load(path) as stored:
        for key in stored.files:
            number, _, name = key.partition(".")
            if int(number) == len(batches):
                batches.append({})
            batches[int(number)][name] = stored[key]
    return batches
