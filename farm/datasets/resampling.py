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
    from collections.abc import Sequence

    from farm.datasets.coco_evaluators import Floats64

CONFIDENCE = 0.95
SEED = 0
RESAMPLES = 400
"""Enough for a standard error; the far percentiles of a bootstrap would need more."""
GROUPS = 200
"""Into how many groups images are put that are left out in turn; each image is one if fewer."""
_BLOCK = 250
"""How many resamples are computed at once: what they need stays near the processor."""

_QUANTILES = {
    1: 12.706, 1.5: 6.017, 2: 4.303, 2.5: 3.575, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 8: 2.306,
    10: 2.228, 15: 2.131, 30: 2.042, 60: 2.000, 120: 1.980, float("inf"): 1.960,
}  # fmt: skip
"""Of Student's t distribution, two-sided, for `CONFIDENCE`: by its degrees of freedom."""


@dataclass(frozen=True)
class Interval:
    """A drop of AP, 0 to 1, lies from `low` to `high` with the confidence `CONFIDENCE`."""

    low: float
    high: float


def drop_figures(reference: dict[str, Matches], own: dict[str, Matches]) -> dict[str, Any]:
    """Return `box_ap_drop_low`, `box_ap_drop_high`, with masks `mask_ap_drop_low` ..., and how they
    were made. Both sides are matched on the same images. None where there is no interval."""
    figures: dict[str, Any] = {}
    for kind in own.keys() & reference.keys():
        found = drop_interval(reference[kind], own[kind])
        figures[f"{kind}_ap_drop_low"] = found.low if found else None
        figures[f"{kind}_ap_drop_high"] = found.high if found else None
    how = {"confidence": CONFIDENCE, "resamples": RESAMPLES, "seed": SEED}
    return figures | {f"ap_drop_{name}": value for name, value in how.items()}


def drop_interval(reference: Matches, own: Matches) -> Interval | None:
    """Return the interval of the reference's AP less the own one, on the same images.

    The drop on all images is its middle. Both ends are exactly 0 where the matches of both sides
    stand in the same order of scores. None where not even two images have objects to be found.
    """
    images, groups = reference.images, min(GROUPS, reference.images)
    weights = np.concatenate(
        [np.ones((images, 1)), leaving_out(images, groups), resamples(images)], axis=1
    )
    drop, *others = drop_samples(reference, own, weights).tolist()
    left_out, drawn = finite(others[:groups]), finite(others[groups:])
    if drop == 0 and not drawn.any():
        return Interval(0.0, 0.0)
    if len(left_out) < 2:
        return None
    error = float(np.sqrt(np.mean((drawn - drop) ** 2)))
    reach = quantile(degrees_of_freedom(left_out)) * error
    return Interval(drop - reach, drop + reach)


def finite(values: Sequence[float]) -> Floats64:
    """Return the values that are no NaN: those of resamples with objects."""
    found: Floats64 = np.array([one for one in values if np.isfinite(one)], np.float64)
    return found


def degrees_of_freedom(left_out: Floats64) -> float:
    """Return how many independent values the spread of the drop is as good as known from.

    left_out: the drop without each group of images. Where it depends on a few of them, they are
    few, and so are the degrees: by Satterthwaite's rule, from the kurtosis.
    """
    count, changes = len(left_out), left_out - left_out.mean()
    squares = float((changes**2).sum())
    if squares == 0:
        return 1.0
    kurtosis = count * float((changes**4).sum()) / squares**2
    found = 2 / ((kurtosis - 3) / count + 2 / (count - 1))
    return min(max(found, 1.0), count - 1.0)


def quantile(degrees: float) -> float:
    """Return the one of Student's t distribution; between the table's by their reciprocals."""
    known = sorted(_QUANTILES, reverse=True)
    return float(np.interp(1 / degrees, [1 / one for one in known], [_QUANTILES[x] for x in known]))


def leaving_out(images: int, groups: int) -> Floats64:
    """Return how often each image counts where one group is left out [images, groups]."""
    kept = np.arange(images)[:, None] % groups != np.arange(groups)
    return np.where(kept, 1.0, 0.0)


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
    """Return the drop of AP for each column of the weights [R]; NaN where there are no objects.

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
