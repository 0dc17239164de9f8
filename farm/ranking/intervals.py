"""The ratio of two engines' times, with an exact interval from the signs of paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

Times = npt.NDArray[np.float64]
"""[blocks, engines]: the time of each engine in each block in ms; NaN where it did not run."""


@dataclass(frozen=True)
class Ratio:
    """How many times as long one engine takes as another: the median over blocks, and its interval.

    blocks: in how many both ran.
    """

    value: float
    low: float
    high: float
    blocks: int

    @property
    def inverse(self) -> Ratio:
        """The same of the two engines the other way round."""
        return Ratio(1 / self.value, 1 / self.high, _inverse(self.low), self.blocks)

    def shows_slower(self, least: float) -> bool:
        """Whether the first engine is slower by more than the fraction `least`."""
        return self.low > 1 + least

    def shows_equal(self, margin: float) -> bool:
        """Whether the two differ by no more than the fraction `margin` either way."""
        return self.high <= 1 + margin and self.low >= 1 / (1 + margin)


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


def ratio(one: Times, other: Times, error: float) -> Ratio | None:
    """Return the ratio of two engines' times, by the blocks in which both ran.

    one, other: [blocks] in ms. error: how probable it may be that the interval misses the median of
    the ratios. Blocks share whatever slowed the machine down at their time, so that only their
    ratios are used, and of those only the order: no distribution is assumed.

    Returns None where no block has both. With too few blocks the interval is (0, inf).
    """
    logs = np.log(one / other)
    logs = np.sort(logs[np.isfinite(logs)])
    if not len(logs):
        return None
    low, high = sign_interval(logs, error)
    return Ratio(math.exp(float(np.median(logs))), math.exp(low), math.exp(high), len(logs))


def sign_interval(ordered: npt.NDArray[np.float64], error: float) -> tuple[float, float]:
    """Return the interval of the median that the exact sign test gives: two of the values.

    ordered: the values from the least to the largest. error: the probability of a miss, of which
    each side has half.
    """
    # The k-th least value is above the median if fewer than k values are below it.
    k = int(binom.ppf(error / 2, len(ordered), 0.5))
    if k < 1:
        return -math.inf, math.inf
    return float(ordered[k - 1]), float(ordered[-k])


def chained(one: Ratio, other: Ratio) -> Ratio:
    """Return the ratio of two engines that both ran beside a third: a/c from a/b and b/c.

    The interval holds where both others do, so each of them should have half the error.
    """
    return Ratio(
        one.value * other.value, one.low * other.low, one.high * other.high,
        min(one.blocks, other.blocks),
    )  # fmt: skip


class Ratios:
    """The ratios of all pairs of engines, with one error for all of them together.

    pivot: the engine that ran in every group, by which engines of two groups are compared.
    """

    def __init__(self, times: Times, error: float, pivot: int = 0) -> None:
        count = times.shape[1]
        self._times, self._pivot = times, pivot
        self._error = error / max(1, count * (count - 1) // 2)
        self._known: dict[tuple[int, int], Ratio | None] = {}

    def of(self, one: int, other: int) -> Ratio | None:
        """Return how many times as long engine `one` takes as `other`; None if nothing tells."""
        if one > other:
            found = self.of(other, one)
            return found.inverse if found else None
        if (one, other) not in self._known:
            self._known[one, other] = self._of(one, other)
        return self._known[one, other]

    def _of(self, one: int, other: int) -> Ratio | None:
        columns = self._times.T
        if direct := ratio(columns[one], columns[other], self._error):
            return direct
        first = ratio(columns[one], columns[self._pivot], self._error / 2)
        second = ratio(columns[self._pivot], columns[other], self._error / 2)
        return chained(first, second) if first and second else None
