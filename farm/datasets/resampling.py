"""How sure a drop of AP is: the paired bootstrap over images.

A data set is a sample of the images that an engine will meet. Drawing as many images from it again,
with replacement, and taking the AP of both detectors over the same drawn images, shows how far the
drop depends on which images the sample happens to have. `docs/method.md` says more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.datasets.matches import Matches, class_precision, mean

if TYPE_CHECKING:
    from farm.datasets.coco_evaluators import Floats64

SEED = 0
RESAMPLES = 1000
CONFIDENCE = 0.95
_BLOCK = 250
"""How many resamples are computed at once: what they need stays near the processor."""


@dataclass(frozen=True)
class Interval:
    """A drop of AP, 0 to 1, lies from `low` to `high` with the confidence `CONFIDENCE`."""

    low: float
    high: float


def drop_figures(reference: dict[str, Matches], own: dict[str, Matches]) -> dict[str, Any]:
    """Return `box_ap_drop_low`, `box_ap_drop_high`, with masks `mask_ap_drop_low` ..., and how they
    were made. Both sides are matched on the same images. None where there is no AP."""
    figures: dict[str, Any] = {}
    for kind in own.keys() & reference.keys():
        found = drop_interval(reference[kind], own[kind])
        figures[f"{kind}_ap_drop_low"] = found.low if found else None
        figures[f"{kind}_ap_drop_high"] = found.high if found else None
    how = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED}
    return figures | {f"ap_drop_{name}": value for name, value in how.items()}


def drop_interval(reference: Matches, own: Matches) -> Interval | None:
    """Return the interval of the reference's AP less the own one, on the same images.

    Both ends are exactly 0 where both sides have the same matches in the same order of scores. None
    where there are no objects to be found.
    """
    drops = drop_samples(reference, own, resamples(reference.images))
    drops = drops[np.isfinite(drops)]
    if not len(drops):
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drops, [tail, 1 - tail])
    return Interval(float(low), float(high))


@cache
def resamples(images: int) -> Floats64:
    """Return how often each image is drawn in each resample: [images, RESAMPLES].

    By a generator whose stream is the same in all versions of numpy.
    """
    random = np.random.RandomState(SEED)
    weights = np.empty((images, RESAMPLES))
    for i in range(RESAMPLES):
        weights[:, i] = np.bincount(random.randint(0, images, images), minlength=images)
    return weights


def drop_samples(reference: Matches, own: Matches, weights: Floats64) -> Floats64:
    """Return the drop of AP in each resample [R], NaN for one without objects.

    weights: how often each image counts [images, R].
    """
    blocks = (weights[:, i : i + _BLOCK] for i in range(0, weights.shape[1], _BLOCK))
    return np.concatenate([_drops(reference, own, np.ascontiguousarray(one)) for one in blocks])


def _drops(reference: Matches, own: Matches, weights: Floats64) -> Floats64:
    """Classes in which nothing that counts differs have no drop, and are not computed."""
    sums, classes = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for category in np.unique(reference.object_category):
        one, other = reference.of(category), own.of(category)
        objects = weights[one.object_image].sum(0)
        classes += objects > 0
        if not one.same_as(other):
            sums += class_precision(one, weights, objects)
            sums -= class_precision(other, weights, objects)
    return mean(sums, classes)
