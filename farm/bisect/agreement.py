"""Whether two sides give the same boxes, or raw outputs, by the tolerance of `verify`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.detections import raw
from farm.detections.compare import Agreement, RawAgreement, compare, raw_agreement
from farm.stages.inference import Batch, Decoding, completed, decoded

if TYPE_CHECKING:
    from farm.bisect.sides import Values
    from farm.detections import Detections
    from farm.specs import Tolerance


@dataclass(frozen=True)
class Agreed:
    """Whether two sides agree over all batches. reason: why not; None where they do. text: by how
    much. worst: the batch to look into."""

    reason: str | None
    text: str
    worst: int


def agree(
    ours: Sequence[Values],
    theirs: Sequence[Values],
    batches: Sequence[Batch],
    decoding: Decoding | None,
    tolerance: Tolerance,
) -> Agreed:
    """Compare the outputs of both sides for the same batches, the reference's first.

    decoding: how outputs become boxes; None for raw outputs.

    Raises:
        WrongOutputs: outputs have not the form of detections.
    """
    if decoding is None:
        return _raw(ours, theirs, tolerance)
    found = [
        (_boxes(a, batch, decoding), _boxes(b, batch, decoding))
        for a, b, batch in zip(ours, theirs, batches, strict=True)
    ]
    references, engines = (
        [one for batch in side for one in batch] for side in zip(*found, strict=False)
    )
    both = compare(references, engines, tolerance)
    by_batch = [compare(a, b, tolerance) for a, b in found]
    worst = max(range(len(by_batch)), key=lambda i: _unlike(by_batch[i]))
    return Agreed(both.reason, _text(both, tolerance.min_score), worst)


def _raw(ours: Sequence[Values], theirs: Sequence[Values], tolerance: Tolerance) -> Agreed:
    apart = (raw.compare([a], [b]) for a, b in zip(ours, theirs, strict=True))
    by_batch = [raw_agreement(vars(one), tolerance) for one in apart]
    worst = max(range(len(by_batch)), key=lambda i: _or_infinite(by_batch[i].max_rel_diff))
    return Agreed(by_batch[worst].reason, _raw_text(by_batch[worst]), worst)


def _boxes(outputs: Values, batch: Batch, decoding: Decoding) -> list[Detections]:
    return list(decoded(completed(outputs, decoding), batch[1], decoding))


def _unlike(one: Agreement) -> tuple[bool, int, float]:
    """Sorts batches: those in which boxes differ come last."""
    differs = one.reason is not None and one.boxes > 0
    return differs, one.boxes - one.matched, one.max_score_diff or 0.0


def _or_infinite(value: float | None) -> float:
    return float("inf") if value is None else value


def _text(one: Agreement, min_score: float) -> str:
    text = f"{one.matched} of {one.boxes} boxes that score {min_score:g} or more match"
    if one.max_score_diff is not None:
        text += f", scores within {one.max_score_diff:.1e}"
    return text


def _raw_text(one: RawAgreement) -> str:
    if one.max_rel_diff is None:
        return one.reason or ""
    return f"raw outputs within {one.max_rel_diff:.1e} of their largest value"
