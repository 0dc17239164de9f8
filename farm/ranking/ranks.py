"""Ranks with ties: an engine's rank is one more than the number of those shown to be faster."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from farm.ranking.intervals import Ratio, Ratios, Times

if TYPE_CHECKING:
    from farm.ranking.rounds import Rules


@dataclass(frozen=True)
class Ranked:
    """An engine among those that it was compared with.

    rank: 1, 1, 1, 4: those that cannot be told apart share a rank. vs_best: its time over that of
    the fastest; None where the two were not compared. blocks: in how many it ran.
    """

    rank: int
    vs_best: Ratio | None
    blocks: int


def ranked(times: Times, rules: Rules, pivot: int = 0) -> list[Ranked]:
    """Rank the engines by their times; see `Times`.

    rules: those of the rounds that the times are of: the last look has the error of each look.
    """
    ratios, count = Ratios(times, rules.error_of_look, pivot), times.shape[1]
    faster = [
        sum(_shown_slower(ratios, one, other, rules) for other in range(count) if other != one)
        for one in range(count)
    ]
    best = _best(ratios, faster)
    blocks = np.isfinite(times).sum(axis=0)
    same = Ratio(1.0, 1.0, 1.0, int(blocks[best]))
    return [
        Ranked(1 + faster[one], same if one == best else ratios.of(one, best), int(blocks[one]))
        for one in range(count)
    ]


def _shown_slower(ratios: Ratios, one: int, other: int, rules: Rules) -> bool:
    found = ratios.of(one, other)
    return found is not None and found.shows_slower(rules.least)


def _best(ratios: Ratios, faster: list[int]) -> int:
    """The fastest, by the mean of its log-ratios, of those that none is shown to be faster than."""
    first = [one for one, others in enumerate(faster) if others == min(faster)]

    def mean(one: int) -> float:
        found = (ratios.of(one, other) for other in first if other != one)
        return fmean([math.log(ratio.value) for ratio in found if ratio] or [0.0])

    return min(first, key=mean)
