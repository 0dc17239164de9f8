"""The images on which engines are furthest from PyTorch, from the boxes that `verify` has kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from farm.errors import FarmError
from farm.specs import Ref
from farm.store.origins import HERE
from farm.terminal import plain

if TYPE_CHECKING:
    from farm.detections import Detections
    from farm.results.columns import Row
    from farm.specs import Tolerance
    from farm.store import Store

log = logging.getLogger(__name__)

BOXES = "detections.npz"
"""What `verify` keeps of the engine's boxes."""

_MOST_CELLS = 4
_MOST_IMAGES = 2
"""So many cells of a target, and images of a cell, are shown."""


@dataclass(frozen=True)
class Side:
    """The boxes of one detector on an image.

    counted: indices of the boxes that are drawn. alone: of those without a partner. apart: of those
    that differ from their partner by more than the tolerance. score_diff, box_diff_px: the largest
    differences of all pairs that count.
    """

    found: Detections
    counted: frozenset[int]
    alone: frozenset[int]
    apart: frozenset[int]
    score_diff: float
    box_diff_px: float


@dataclass(frozen=True)
class Disagreement:
    """An image on which an engine is not PyTorch's copy.

    picture: PyTorch's boxes beside the engine's, as a data address. lost, added, apart: how many
    boxes only PyTorch has, only the engine has, and are further apart than the tolerance allows.
    """

    cell: str
    image: str
    picture: str
    lost: int
    added: int
    apart: int
    max_score_diff: float
    max_box_diff_px: float


Draw = Callable[[Ref, int, Side, Side], "tuple[str, str]"]
"""Draws a prepared image twice, with PyTorch's boxes and with the engine's; returns the name of the
image and the picture as a data address."""


def disagreements(
    rows: Sequence[Row], store: Store, tolerance_of: Callable[[str, str], Tolerance], draw: Draw
) -> Iterator[Disagreement]:
    """Yield the worst images of the cells that are furthest from PyTorch.

    Cells whose boxes or images are not in a folder of this machine are passed over: nothing is
    downloaded for a picture.

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
        pairs = [(i, *compared(*pair, limits)) for i, pair in enumerate(_boxes(row, store))]
        pairs.sort(key=lambda one: _severity(one[1], one[2]), reverse=True)
        for index, pytorch, engine in pairs[:_MOST_IMAGES]:
            if not any(_severity(pytorch, engine)):
                break
            image, picture = draw(Ref("prepare", row["prepare_key"]), index, pytorch, engine)
            yield Disagreement(
                plain(row["cell"]), plain(image), picture, len(pytorch.alone), len(engine.alone),
                len(pytorch.apart), pytorch.score_diff, pytorch.box_diff_px,
            )  # fmt: skip
    except (OSError, ValueError, KeyError, FarmError) as error:
        log.debug(f"no picture of {row['cell']}: {error}")


def _boxes(row: Row, store: Store) -> list[tuple[Detections, Detections]]:
    """PyTorch's and the engine's boxes by image. Raises OSError where they are not here."""
    from farm.detections import files

    refs = [Ref(stage, row[f"{stage}_key"]) for stage in ("reference", "verify")]
    for ref in refs:
        if store.path(ref).exists() and store.altered(ref):
            raise ValueError(f"its {ref.stage} was altered")
    reference = files.load(store.path(refs[0]) / "graph.npz")
    engine = files.load(store.path(refs[1]) / BOXES)
    # The engine's masks are not kept, so boxes alone say which belong together.
    boxes = [replace(one, rles=None, mask_scores=None) for one in reference]
    return list(zip(boxes, engine, strict=True))


def compared(pytorch: Detections, engine: Detections, limits: Tolerance) -> tuple[Side, Side]:
    """Return both sides of an image. A pair counts if either of its scores does."""
    from farm.detections.matching import partners

    partner = partners(pytorch, engine)
    rest = set(range(len(engine))) - set(partner.values())
    lost = [i for i in range(len(pytorch)) if i not in partner]
    pairs = [
        (i, j)
        for i, j in partner.items()
        if max(pytorch.scores[i], engine.scores[j]) >= limits.min_score
    ]
    scores = [abs(float(pytorch.scores[i] - engine.scores[j])) for i, j in pairs]
    pixels = [float(np.abs(pytorch.boxes[i] - engine.boxes[j]).max()) for i, j in pairs]
    apart = [
        pair
        for pair, score, distance in zip(pairs, scores, pixels, strict=True)
        if score > limits.max_score_diff or distance > limits.max_box_diff_px
    ]
    largest = max(scores, default=0.0), max(pixels, default=0.0)

    def side(found: Detections, alone: Iterable[int], own: Iterable[int]) -> Side:
        counted = frozenset(one for one in alone if found.scores[one] >= limits.min_score)
        visible = {one for one, score in enumerate(found.scores) if score >= limits.min_score}
        return Side(found, frozenset(visible | set(own)), counted, frozenset(own), *largest)

    return side(pytorch, lost, (i for i, _ in apart)), side(engine, rest, (j for _, j in apart))


def _severity(pytorch: Side, engine: Side) -> tuple[int, int]:
    """How bad an image is: boxes that one side lacks, then those that are apart."""
    return len(pytorch.alone) + len(engine.alone), len(pytorch.apart)
