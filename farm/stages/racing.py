"""Racing: an engine that loses too much AP for sure is not evaluated to the end.

After an eighth, a quarter and half of the images the interval of its drop so far is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from farm.datasets import coco
from farm.datasets.resampling import drop_interval

if TYPE_CHECKING:
    from farm.datasets.matches import Matches
    from farm.datasets.prepared import Prepared
    from farm.detections import Detections
    from farm.stages.inference import Batch

SLICES = (0.125, 0.25, 0.5)
LEAST = 8
"""Images in the first slice: fewer show too few objects."""


@dataclass(frozen=True)
class Race:
    """What an engine is held against. reference: PyTorch's matches, by kind.

    max_ap_drop: in AP points of 100; None where every engine is evaluated to the end.
    """

    prepared: Prepared
    reference: dict[str, Matches]
    classes: Sequence[str]
    max_ap_drop: float | None

    def stops(self) -> list[int]:
        """Return after how many images to look, the last time after all."""
        images = len(self.prepared)
        early = (round(images * part) for part in SLICES) if self.max_ap_drop is not None else ()
        return [*sorted({one for one in early if LEAST <= one < images}), images]

    def is_lost(self, found: Sequence[Detections]) -> bool:
        """Return whether the lower end of the drop on these first images is over the bound."""
        if self.max_ap_drop is None or len(found) == len(self.prepared):
            return False
        own = evaluation(self.prepared, found, self.classes).matches()
        reference = self.so_far(len(found))
        drops = [
            drop_interval(reference[kind], own[kind]) for kind in own.keys() & reference.keys()
        ]
        return any(one is not None and 100 * one.low > self.max_ap_drop for one in drops)

    def so_far(self, images: int) -> dict[str, Matches]:
        """Return the reference's matches on the first images."""
        ids = np.array([meta.image_id for meta in self.prepared.metas])
        places = np.searchsorted(np.sort(ids), np.sort(ids[:images]))
        return {kind: one.drawn(places) for kind, one in self.reference.items()}


def evaluation(
    prepared: Prepared, found: Sequence[Detections], classes: Sequence[str]
) -> coco.Evaluation:
    """Return the detections of the first images beside their objects.

    Raises:
        LabelOutOfRange, StepFailed: as `coco.Evaluation`.
    """
    masks = any(one.rles is not None for one in found)
    metas = prepared.metas[: len(found)]
    return coco.Evaluation(prepared.annotations, found, metas, classes, masks)


def up_to(batches: Iterator[Batch], images: int) -> Iterable[Batch]:
    """Yield the next batches, until they have so many images."""
    while images > 0 and (batch := next(batches, None)):
        yield batch
        images -= len(batch[1])
