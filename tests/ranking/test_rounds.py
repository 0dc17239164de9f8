"""Rounds of engines whose speed is known, by a clock that they move themselves."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from farm.ranking.ranks import ranked
from farm.ranking.rounds import LEAST_SHARE, Rounds, Rules, balanced_orders, run_rounds


class Machine:
    """Engines that take so many ms, on a machine whose load comes and goes.

    noise: the standard deviation of the logarithm of each block; load: of what all blocks share
    that come one after another.
    """

    def __init__(self, seed: int, noise: float = 0.05, load: float = 0.5) -> None:
        self.now, self._noise, self._load = 0.0, noise, load
        self._generator, self._level = np.random.default_rng(seed), 0.0

    def engine(self, milliseconds: float) -> object:
        def run() -> float:
            self._level = 0.95 * self._level + 0.05 * self._generator.normal(0, self._load)
            own = self._generator.normal(0, self._noise)
            taken = milliseconds * float(np.exp(self._level + own))
            self.now += 3 * taken / 1e3
            return taken

        return run

    def rounds(self, times: list[float], rules: Rules) -> Rounds:
        engines = [self.engine(one) for one in times]
        return run_rounds(engines, rules, lambda: self.now)  # type: ignore[arg-type]


def ranks(found: Rounds, rules: Rules) -> list[int]:
    return [one.rank for one in ranked(found.times, rules)]


def test_equal_engines_are_tied_and_differ_seldom() -> None:
    ends, different = Counter[str](), 0
    for seed in range(100):
        rules = Rules(seed=seed)
        found = Machine(seed).rounds([10.0, 10.0], rules)
        ends[found.ended] += 1
        different += ranks(found, rules) != [1, 1]
    assert ends["tied"] >= 95 and different <= 2


def test_an_engine_that_is_slower_by_the_margin_is_found() -> None:
    found = 0
    for seed in range(50):
        rules = Rules(seed=seed)
        found += ranks(Machine(seed).rounds([10.2, 10.0], rules), rules) == [2, 1]
    assert found >= 45


def test_the_pick_of_many_is_that_of_their_true_speeds_in_a_fraction_of_the_time() -> None:
    generator = np.random.default_rng(0)
    right, spent = 0, 0.0
    for seed in range(20):
        times = [float(one) for one in 10 * np.exp(generator.normal(0, 0.2, 20))]
        machine, rules = Machine(seed), Rules(max_seconds=80, seed=seed)
        found = machine.rounds(times, rules)
        right += ranks(found, rules)[int(np.argmin(times))] == 1
        spent += machine.now
    assert right == 20 and spent / 20 < 80


def test_those_that_are_slower_drop_out_and_the_rank_says_how_many_are_faster() -> None:
    rules = Rules(seed=1)
    found = Machine(1).rounds([10.0, 10.0, 10.0, 20.0, 40.0], rules)
    ran = np.isfinite(found.times).sum(axis=0)
    assert ran[3] < ran[0] and ran[0] == ran[1] == ran[2] == len(found.times)
    assert ranks(found, rules) == [1, 1, 1, 4, 5] and found.ended == "tied"
    best, slow = ranked(found.times, rules)[0], ranked(found.times, rules)[3]
    assert slow.vs_best is not None and slow.vs_best.low < 2 < slow.vs_best.high
    assert slow.blocks == ran[3] and best.vs_best is not None


def test_one_that_remains_ends_the_rounds() -> None:
    found = Machine(1).rounds([10.0, 20.0], Rules(seed=1))
    assert found.ended == "order" and len(found.times) == 12


def test_the_budget_ends_rounds_that_show_nothing() -> None:
    machine = Machine(1, noise=0.8)
    found = machine.rounds([10.0, 10.1], Rules(max_seconds=2, seed=1))
    assert found.ended == "budget" and 2 <= machine.now < 3
    assert ranks(found, Rules(seed=1)) == [1, 1]
    slow = Machine(1).rounds([9e3, 9e3], Rules(max_seconds=1e-3))
    assert len(slow.times) == 2, "two blocks in any case"


def test_a_difference_below_the_least_is_none_however_often_it_is_seen() -> None:
    rules = Rules(margin=0.02, seed=1)
    times = np.tile([10.0, 10.0 * (1 + 0.9 * 0.02 * LEAST_SHARE)], (4000, 1))
    assert [one.rank for one in ranked(times, rules)] == [1, 1]
    times[:, 1] = 10.0 * (1 + 1.1 * 0.02 * LEAST_SHARE)
    assert [one.rank for one in ranked(times, rules)] == [1, 2]


def test_looking_often_does_not_make_a_difference_of_noise() -> None:
    """A rule that looks after each block with the whole error calls two of ten pairs different."""
    rules = Rules(margin=1e-9, error=0.05, max_seconds=60)
    different = 0
    for seed in range(100):
        found = Machine(seed).rounds([10.0, 10.0], rules)
        different += ranks(found, rules) != [1, 1]
    assert different <= 5


@pytest.mark.parametrize("count", [2, 3, 7])
def test_each_engine_comes_once_at_every_place_of_a_square(count: int) -> None:
    orders = balanced_orders(np.random.default_rng(4), range(10, 10 + count))
    for _ in range(5):
        square = [*islice(orders, count)]
        for lines in (square, zip(*square, strict=True)):
            assert all(sorted(line) == [*range(10, 10 + count)] for line in lines)


def test_the_order_is_that_of_the_seed_and_not_always_the_same() -> None:
    def orders(seed: int) -> list[list[int]]:
        return [*islice(balanced_orders(np.random.default_rng(seed), range(5)), 20)]

    assert orders(1) == orders(1) != orders(2)
    assert len({tuple(one) for one in orders(1)}) > 10
