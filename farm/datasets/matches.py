"""Which detections of which image match an object: all that AP over any images is computed from.

The matching of an image does not depend on the others, so it is done once and kept. AP over a
sample of the images, some of them several times, is then a matter of sums over what was kept.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm.datasets.coco_evaluators import IOUS, Floats64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.datasets.coco_evaluators import ImageMatches

Whole = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint16]

_RECALLS = np.linspace(0, 1, 101)
_CLOSE = 1e-9
"""Recalls in percent that are closer are equal: they are quotients of counts."""
_PERCENT = np.arange(101)
_MISSED = np.where(_RECALLS > _PERCENT / 100, _PERCENT + _CLOSE, -1)
"""pycocotools' own recalls are rounded, some of them up: a recall of 7 % does not reach 0.07."""
_EVERY_IOU = (1 << IOUS) - 1


@dataclass(frozen=True)
class Matches:
    """Boxes or masks of a data set, matched at COCO's ten IoUs: objects of all sizes, at most 100
    detections an image and category.

    D detections: by category, then the best score first, equal ones in the order of their images.
    Left out are those that no AP depends on: ignored at every IoU, or worse than the last one of
    their category that is ever true. images: how many there are, numbered from 0 by their ids; so
    are the categories. image, category: int32 [D]. score: float32 [D]. true, false: uint16 [D], bit
    i says that the detection is a true or a false positive at the IoU 0.5 + 0.05 i; neither where
    it is ignored, as it is on a crowd. object_image, object_category: int32 [G], of the objects to
    be found, crowds left out, in the order of categories and images.
    """

    images: int
    image: Whole
    category: Whole
    score: npt.NDArray[np.float32]
    true: Bits
    false: Bits
    object_image: Whole
    object_category: Whole

    def of(self, category: int) -> Class:
        """Return what belongs to one category."""
        found, objects = (
            slice(*np.searchsorted(column, [category, category + 1]))
            for column in (self.category, self.object_category)
        )
        return Class(
            self.image[found], self.true[found], self.false[found], self.object_image[objects]
        )

    def drawn(self, places: Places) -> Matches:
        """Return the matches of a data set of these images, of which some may be there often."""
        copies = [np.flatnonzero(places == image) for image in range(self.images)]
        rows, image = _copied(self.image, copies)
        objects, object_image = _copied(self.object_image, copies)
        return Matches(
            len(places), image, self.category[rows], self.score[rows], self.true[rows],
            self.false[rows], object_image, self.object_category[objects],
        )  # fmt: skip


def _copied(image: Whole, copies: Sequence[Places]) -> tuple[Places, Whole]:
    """Which rows there are with each as often as its image is, and the images of the copies."""
    found = [copies[one] for one in image]
    rows = np.arange(len(found)).repeat([len(one) for one in found])
    return rows, np.concatenate([np.zeros(0, np.int64), *found]).astype(np.int32)


@dataclass(frozen=True)
class Class:
    """The matches of one category; see `Matches`."""

    image: Whole
    true: Bits
    false: Bits
    object_image: Whole

    def same_as(self, other: Class) -> bool:
        """Return whether AP is the same over any images: scores matter by their order alone."""
        return all(np.array_equal(a, b) for a, b in zip(*map(_arrays, (self, other)), strict=True))


def _arrays(one: Class) -> tuple[npt.NDArray[Any], ...]:
    return one.image, one.true, one.false, one.object_image


def collected(parts: Sequence[ImageMatches], images: int) -> Matches:
    """Put the matches of all images and categories together."""
    parts = sorted(parts, key=lambda one: (one.category, one.image))
    counts = [len(one.scores) for one in parts]
    image = np.repeat(np.array([one.image for one in parts], np.int32), counts)
    category = np.repeat(np.array([one.category for one in parts], np.int32), counts)
    score = np.concatenate([np.zeros(0), *(one.scores for one in parts)])
    matched, ignored = (
        np.concatenate([np.zeros((IOUS, 0), bool), *(getattr(one, name) for one in parts)], axis=1)
        for name in ("matched", "ignored")
    )
    true, false = _bits(matched & ~ignored), _bits(~matched & ~ignored)
    order = np.lexsort((image, -score, category))
    order = order[(true | false)[order] != 0]
    order = order[_not_after_the_last(true[order] != 0, category[order])]
    objects = [one.objects for one in parts]
    return Matches(
        images, image[order], category[order], score[order].astype(np.float32),
        true[order], false[order],
        np.repeat(np.array([one.image for one in parts], np.int32), objects),
        np.repeat(np.array([one.category for one in parts], np.int32), objects),
    )  # fmt: skip


def _bits(flags: npt.NDArray[np.bool_]) -> Bits:
    """Row i of [IoUs, D] as bit i."""
    bits: Bits = (flags * (1 << np.arange(IOUS))[:, None]).sum(0).astype(np.uint16)
    return bits


def _not_after_the_last(true: npt.NDArray[np.bool_], category: Whole) -> npt.NDArray[np.bool_]:
    """Which rows have a true one of their category at or behind them."""
    last = np.full(int(category.max(initial=-1)) + 1, -1)
    (places,) = true.nonzero()
    np.maximum.at(last, category[places], places)
    kept: npt.NDArray[np.bool_] = np.arange(len(true)) <= last[category]
    return kept


# AP -------------------------------------------------------------------------------------------


def average_precision(matches: Matches, weights: Floats64) -> Floats64:
    """Return COCO's AP over images that count several times or not at all: float64 [R].

    weights: [images, R], how often each image counts in each of R resamples. Two copies of one
    detection rank side by side. NaN for a resample without objects.
    """
    sums, classes = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for category in np.unique(matches.object_category):
        one = matches.of(category)
        objects = weights[one.object_image].sum(0)
        sums += class_precision(one, weights, objects)
        classes += objects > 0
    return mean(sums, classes)


def mean(sums: Floats64, counts: Floats64) -> Floats64:
    """Return the sums over their counts; NaN where a count is 0."""
    found: Floats64 = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return found


def class_precision(one: Class, weights: Floats64, objects: Floats64) -> Floats64:
    """Return the AP of one category [R], over all IoUs. objects: how many there are [R]; AP is 0
    where there are none."""
    (some,) = one.true.nonzero()  # from one of these to the next nothing but a sum matters
    counted = one.true | one.false
    always = counted == _EVERY_IOU
    positives, own = _up_to(some, always.nonzero()[0], one.image, weights), weights[one.image[some]]
    total = np.zeros(len(objects))
    for i in range(IOUS):
        (hits,) = (one.true[some] >> i & 1).nonzero()
        others = ((counted >> i & 1) & ~always).nonzero()[0]
        at_this = positives[hits]
        if len(others):
            at_this += _up_to(some[hits], others, one.image, weights)
        total += _interpolated(own[hits].cumsum(0), at_this, objects)
    return total / IOUS


def _up_to(rows: Places, counted: Places, image: Whole, weights: Floats64) -> Floats64:
    """The sums [rows, R] of the weights of the detections `counted`, up to and with each row."""
    ends = np.searchsorted(counted, rows, "right").tolist()
    sums = np.zeros((len(rows), weights.shape[1]))
    for i, (start, end) in enumerate(itertools.pairwise([0, *ends])):
        if end > start:
            weights[image[counted[start:end]]].sum(0, out=sums[i])
    return sums.cumsum(0, out=sums)


def _interpolated(true: Floats64, positives: Floats64, objects: Floats64) -> Floats64:
    """AP at one IoU [R], as pycocotools has it, from the true positives and all positives up to
    each true one [hits, R]: between these the best precision from there on stays the same."""
    precision = true / (positives + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = _reached(true * (100 / np.maximum(objects, 1)))
    reached[1:] -= reached[:-1].copy()
    found: Floats64 = np.einsum("hr,hr->r", best, reached) / len(_RECALLS)
    return found


def _reached(percent: Floats64) -> Floats64:
    """How many of the 101 recalls are reached at a recall in percent."""
    whole = np.floor(percent + _CLOSE)
    whole -= percent < _MISSED[whole.astype(np.int8)]
    return whole + 1


# Files ----------------------------------------------------------------------------------------


def save(path: Path, matches: Mapping[str, Matches]) -> None:
    """Write the matches of boxes and masks, by kind, into one .npz."""
    np.savez_compressed(
        path,
        **{f"{kind}.{k}": v for kind, one in matches.items() for k, v in asdict(one).items()},
    )


def load(path: Path) -> dict[str, Matches]:
    """Read what `save` wrote."""
    with np.load(path) as stored:
        fields: dict[str, dict[str, Any]] = {}
        for name in stored.files:
            kind, _, field = name.partition(".")
            value = stored[name]
            fields.setdefault(kind, {})[field] = value if value.ndim else int(value)
    return {kind: Matches(**values) for kind, values in fields.items()}
