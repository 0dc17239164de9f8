"""What int8 loses on images that it was not calibrated on, and how sure that is."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.datasets import coco, resampling
from farm.errors import StepFailed

if TYPE_CHECKING:
    from farm.datasets.matches import Matches
    from farm.detections import Detections, ImageMeta
    from farm.specs import Auto

log = logging.getLogger(__name__)

FEWEST = 4
"""Calibration images, below which there is nothing to split."""

FEW = 16
"""Images that scales are measured on; with fewer held out, a warning says so."""

_AP50 = 1
"""The bit of the IoU 0.5 in `Matches`."""

_EVERY_IOU = (1 << 10) - 1


def split(metas: Sequence[ImageMeta]) -> tuple[list[int], list[int]]:
    """Return which images scales are measured on, and which are held out to judge by.

    Half each of up to 2 * FEW images; of more, FEW or a quarter measure scales, which need fewer
    images than an interval does. By a digest of their names: neighbours, as of a video, fall on
    either side by chance, and always on the same one.

    Raises:
        StepFailed: there are fewer than FEWEST images.
    """
    count = len(metas)
    if count < FEWEST:
        raise StepFailed(
            "int8 auto measures scales on a part of the calibration images and judges by the "
            f"others: expected at least {FEWEST} images, not {count}"
        )
    digests = [hashlib.sha256(one.file_name.encode()).hexdigest() for one in metas]
    shuffled = sorted(range(count), key=lambda i: digests[i])
    own = min((count + 1) // 2, max(FEW, count // 4))
    return sorted(shuffled[:own]), sorted(shuffled[own:])


@dataclass(frozen=True)
class Drop:
    """The AP lost, and the upper end of its interval, in points of 100."""

    ap: float
    high: float


class HeldOut:
    """The objects on the held-out images, and what fp32 finds of them.

    Their COCO box AP counts where they are annotated; where not, box AP50 with fp32's own boxes as
    the truth. truth, metric: the file of the objects, and the name of the figure.

    Raises:
        StepFailed: fp32 finds nothing there, or less than two images have objects.
    """

    def __init__(
        self,
        found: Sequence[Detections],
        metas: Sequence[ImageMeta],
        annotations: Path,
        how: Auto,
        folder: Path,
    ) -> None:
        self._metas, self._how, self.truth = metas, how, annotations
        self.metric = "box_ap"
        if not how.annotated:
            self.truth, self.metric = folder / "truth.json", "box_ap50"
            _write_truth(self.truth, found, metas, how)
        self._fp32 = self._matches(found)
        self._once = np.ones((len(metas), 1))
        if not self._fp32.true.any() or len(np.unique(self._fp32.object_image)) < 2:
            raise StepFailed(
                "int8 auto has no AP to compare: fp32 finds nothing, or there are objects on less "
                "than two, of the calibration images that are held out"
            )
        if len(metas) < FEW:
            log.warning(
                f"int8 auto judges by {len(metas)} held-out images, which is few: give it "
                f"{2 * FEW} calibration images or more"
            )

    def drop(self, found: Sequence[Detections]) -> Drop:
        """Return what is lost by these detections: see `resampling.drop_interval`."""
        own = self._matches(found)
        (lost,) = resampling.drop_samples(self._fp32, own, self._once)
        interval = resampling.drop_interval(self._fp32, own)
        assert interval is not None  # there are two images with objects
        return Drop(100 * float(lost), 100 * interval.high)

    def figures(self) -> dict[str, Any]:
        """Return how drops are judged: the metric, the images and the confidence."""
        return {
            "auto_metric": self.metric,
            "auto_images": len(self._metas),
            "auto_confidence": resampling.CONFIDENCE,
        }

    def _matches(self, found: Sequence[Detections]) -> Matches:
        evaluation = coco.Evaluation(self.truth, found, self._metas, self._how.classes, False)
        matches = evaluation.matches()["box"]
        return matches if self._how.annotated else _at_iou50(matches)


def _at_iou50(matches: Matches) -> Matches:
    """The matches at the IoU 0.5 for all IoUs, so that their AP is AP50."""
    true, false = ((bits & _AP50) * _EVERY_IOU for bits in (matches.true, matches.false))
    return replace(matches, true=true.astype(np.uint16), false=false.astype(np.uint16))


def _write_truth(
    path: Path, found: Sequence[Detections], metas: Sequence[ImageMeta], how: Auto
) -> None:
    """Write the boxes of the fp32 model as annotations in COCO's format."""
    rows: list[dict[str, Any]] = []
    for one, meta in zip(found, metas, strict=True):
        for box, score, label in zip(one.boxes.tolist(), one.scores, one.labels, strict=True):
            if score >= how.min_score:
                sides = [box[2] - box[0], box[3] - box[1]]
                rows.append({
                    "id": len(rows) + 1, "image_id": meta.image_id, "category_id": int(label) + 1,
                    "bbox": [*box[:2], *sides], "area": sides[0] * sides[1], "iscrowd": 0,
                })  # fmt: skip
    images = [{"id": one.image_id, "file_name": one.file_name} for one in metas]
    categories = [{"id": i, "name": name} for i, name in enumerate(how.classes, start=1)]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
