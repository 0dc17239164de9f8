"""The images on which engines are furthest from PyTorch, from what `verify` has kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from farm.errors import FarmError
from farm.results import arrays
from farm.specs import Ref
from farm.store.records import HERE
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.detections import Detections
    from farm.results.columns import Row
    from farm.specs import Tolerance
    from farm.store import Store

log = logging.getLogger(__name__)

BOXES = "detections.npz"
"""What `verify` keeps of the engine's boxes and masks."""

_MOST_CELLS = 4
_MOST_IMAGES = 2
"""So many cells of a target, and images of a cell, are shown."""


Largest = tuple[float, float, "float | None"]
"""The largest difference of scores and of coordinates in pixels, and the least IoU of masks."""


@dataclass(frozen=True)
class Side:
    """The boxes of one detector on an image, with their masks where it has some.

    counted: indices of the boxes that are drawn. alone: of those without a partner. apart: of those
    that differ from their partner by more than the tolerance. largest: the differences of all pairs
    that count.
    """

    found: Detections
    counted: frozenset[int]
    alone: frozenset[int]
    apart: frozenset[int]
    largest: Largest


@dataclass(frozen=True)
class Disagreement:
    """An image on which an engine is not PyTorch's copy.

    picture: PyTorch's boxes and masks beside the engine's, as a data address. lost, added, apart:
    how many boxes only PyTorch has, only the engine has, and are further apart than the tolerance
    allows.
    """

    cell: str
    image: str
    picture: str
    lost: int
    added: int
    apart: int
    max_score_diff: float
    max_box_diff_px: float
    min_mask_iou: float | None


Draw = Callable[[Ref, int, Side, Side], "tuple[str, str]"]
"""Draws a prepared image twice, with what PyTorch and what the engine finds; returns the name of
the image and the picture as a data address."""


def disagreements(
    rows: Sequence[Row], store: Store, tolerance_of: Callable[[str, str], Tolerance], draw: Draw
) -> Iterator[Disagreement]:
    """Yield the worst images of the cells that are furthest from PyTorch.

    Cells whose images are not in a folder of this machine are passed over: they are not downloaded
    for a picture.

    tolerance_of: that of a sweep and a precision.
    """
    shown = set[tuple[str, ...]]()
    for row in sorted(filter(_is_apart, rows), key=_how_far, reverse=True):
        # One of the cells that differ in their opset or shape only, which mostly fail alike.
        kind = (row["model"], row["runtime"], row["precision"])
        if kind in shown or len(shown) == _MOST_CELLS:
            continue
        found = list(_worst(row, store, tolerance_of(row["sweep"], row["precision"]), draw))
        if found:
            shown.add(kind)
            yield from found


def _is_apart(row: Row) -> bool:
    """Whether `verify` has compared a cell's boxes here, and they are not all PyTorch's."""
    compared = row.get("matched_fraction") is not None and row["origin"] == HERE
    return compared and bool(row.get("verify_key"))


def _how_far(row: Row) -> tuple[bool, float, float]:
    failed = row["status"] == "failed" and row["failed_stage"] == "verify"
    return failed, 1 - row["matched_fraction"], row.get("max_score_diff") or 0.0


def _worst(row: Row, store: Store, limits: Tolerance, draw: Draw) -> Iterator[Disagreement]:
    try:
        images = [
            (index, *compared(*image, limits)) for index, image in enumerate(_images(row, store))
        ]
        images.sort(key=lambda one: _severity(one[1], one[2]), reverse=True)
        for index, pytorch, engine in images[:_MOST_IMAGES]:
            if not any(_severity(pytorch, engine)):
                break
            image, picture = draw(Ref("prepare", row["prepare_key"]), index, pytorch, engine)
            yield Disagreement(
                plain(row["cell"]), plain(image), picture, len(pytorch.alone), len(engine.alone),
                len(pytorch.apart), *pytorch.largest,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, FarmError) as error:
        log.debug(f"no picture of {row['cell']}: {error}")


def _images(row: Row, store: Store) -> Iterator[tuple[Detections, Detections, arrays.Columns]]:
    """PyTorch's boxes, the engine's, and the pairs of PyTorch's, by image.

    Raises OSError where they are not here, ValueError where they are not as their steps left them.
    """
    from farm.detections import files

    refs = [Ref(stage, row[f"{stage}_key"]) for stage in ("reference", "verify")]
    if not store.path(Ref("prepare", row["prepare_key"])).exists():
        raise FileNotFoundError("its images are not here")
    for ref in refs:  # their files are then here, whatever kind of store it is
        if store.altered(ref):
            raise ValueError(f"its {ref.stage} was altered")
    references = files.load(store.path(refs[0]) / "graph.npz")
    engines = files.load(store.path(refs[1]) / BOXES)
    pairs = arrays.pairs(store.path(refs[1]) / "pairs.npz")
    start = 0
    for reference, engine in zip(references, engines, strict=True):
        # A row for each of PyTorch's boxes, then one for each of the engine's without a partner.
        own = {name: values[start : start + len(reference)] for name, values in pairs.items()}
        start += len(reference) + len(engine) - int(np.isfinite(own["engine_score"]).sum())
        yield reference, engine, own


def compared(
    pytorch: Detections, engine: Detections, pairs: arrays.Columns, limits: Tolerance
) -> tuple[Side, Side]:
    """Return both sides of an image. A pair counts if either of its scores does.

    pairs: of each of PyTorch's boxes, as `verify` has found them, masks included.
    """
    from farm.detections.matching import partners

    partner = partners(pytorch, engine)
    scores = np.abs(pairs["reference_score"] - pairs["engine_score"])
    scores = np.fmax(scores, pairs.get("mask_score_diff", np.full_like(scores, np.nan)))
    counted = np.fmax(pairs["reference_score"], pairs["engine_score"]) >= limits.min_score
    matched = counted & np.isfinite(pairs["engine_score"])
    within = (scores <= limits.max_score_diff) & (pairs["box_diff_px"] <= limits.max_box_diff_px)
    within &= (pairs["iou"] >= limits.min_iou) & ~(pairs["mask_iou"] < limits.min_mask_iou)
    lost = np.isnan(pairs["engine_score"])
    apart = matched & ~within
    masks = pairs["mask_iou"][matched & np.isfinite(pairs["mask_iou"])]
    largest = (
        float(scores[matched].max(initial=0.0)),
        float(pairs["box_diff_px"][matched].max(initial=0.0)),
        float(masks.min()) if len(masks) else None,
    )
    added = set(range(len(engine))) - set(partner.values())
    others = [partner[i] for i in np.flatnonzero(apart).tolist() if i in partner]
    return (
        _side(pytorch, np.flatnonzero(lost), np.flatnonzero(apart), largest, limits),
        _side(engine, added, others, largest, limits),
    )


def _side(
    found: Detections,
    alone: Iterable[int],
    apart: Iterable[int],
    largest: Largest,
    limits: Tolerance,
) -> Side:
    visible = frozenset(np.flatnonzero(found.scores >= limits.min_score).tolist())
    own = frozenset(map(int, apart))
    return Side(found, visible | own, visible & frozenset(map(int, alone)), own, largest)


def _severity(pytorch: Side, engine: Side) -> tuple[int, int]:
    """How bad an image is: boxes that one side lacks, then those that are apart."""
    return len(pytorch.alone) + len(engine.alone), len(pytorch.apart)
