"""Run engines in turn, in randomised blocks, until their order is shown or the budget is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from farm.ranking.intervals import Ratios, Times

if TYPE_CHECKING:
    from numpy.random import Generator

LEAST_SHARE = 0.25
"""Of the margin: a smaller difference is never called one. Two openings of one engine differ by
less than that for good, since their memory lies elsewhere."""

LOOKS = tuple(round(8 * 1.5**power) for power in range(15))
"""After so many blocks the results are looked at, and once more at the end. Each look has its share
of the error, so that looking often does not make a difference of noise."""

Run = Callable[[], float]
"""Runs an engine for one block, and returns the median time of a run in ms."""


@dataclass(frozen=True)
class Rules:
    """When a comparison ends.

    margin: engines are tied that differ by no more than this fraction. error: how probable it may
    be that any statement of the comparison is wrong. max_seconds: the budget. seed: of the order.
    """

    margin: float = 0.02
    error: float = 0.05
    max_seconds: float = 60.0
    seed: int = 0

    @property
    def least(self) -> float:
        """The fraction by which an engine must at least be slower to be called so."""
        return self.margin * LEAST_SHARE

    @property
    def error_of_look(self) -> float:
        """The error of each of the looks at the results."""
        return self.error / (len(LOOKS) + 1)


@dataclass(frozen=True)
class Rounds:
    """What the blocks have shown. ended: `order` if all but one engine were shown to be slower,
    `tied` if the others differ by no more than the margin, `budget` if neither was shown."""

    times: Times
    ended: str


def run_rounds(
    engines: Sequence[Run], rules: Rules, clock: Callable[[], float] = time.perf_counter
) -> Rounds:
    """Run the engines in blocks: each once in every block, in a balanced random order.

    An engine that is shown to be slower than another drops out. Raises whatever an engine raises.
    """
    blocks: list[list[float]] = []
    active = list(range(len(engines)))
    generator = np.random.default_rng(rules.seed)
    until, ended = clock() + rules.max_seconds, "budget"
    orders = balanced_orders(generator, active)
    while len(blocks) < LOOKS[-1] and (clock() < until or len(blocks) < 2):
        block = [float("nan")] * len(engines)
        for index in next(orders):
            block[index] = engines[index]()
        blocks.append(block)
        if len(blocks) in LOOKS:
            ratios = Ratios(np.array(blocks), rules.error_of_look)
            remaining = _not_slower(ratios, active, rules.least)
            if len(remaining) < 2 or _tied(ratios, remaining, rules.margin):
                ended = "order" if len(remaining) < 2 else "tied"
                break
            if remaining != active:
                active = remaining
                orders = balanced_orders(generator, active)
    return Rounds(np.array(blocks, np.float64).reshape(len(blocks), len(engines)), ended)


def _not_slower(ratios: Ratios, active: Sequence[int], least: float) -> list[int]:
    """Those engines that no other is shown to be faster than."""

    def slower(one: int) -> bool:
        found = (ratios.of(one, other) for other in active if other != one)
        return any(ratio.shows_slower(least) for ratio in found if ratio)

    return [one for one in active if not slower(one)]


def _tied(ratios: Ratios, active: Sequence[int], margin: float) -> bool:
    pairs = (ratios.of(a, b) for i, a in enumerate(active) for b in active[i + 1 :])
    return all(ratio is not None and ratio.shows_equal(margin) for ratio in pairs)


def balanced_orders(generator: Generator, engines: Sequence[int]) -> Iterator[list[int]]:
    """Yield orders of the engines for ever, by random cyclic Latin squares.

    Over the rows of a square, of which there are as many as engines, each engine comes once at
    every place: what a place does to an engine, such as a cache that another has filled, is the
    same for all of them.
    """
    while True:
        first = generator.permutation(engines)
        for shift in generator.permutation(len(engines)):
            yield [int(one) for one in np.roll(first, shift)]
