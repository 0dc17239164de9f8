"""Ratios of times and their intervals, against the sign test itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from farm.ranking.intervals import Ratio, Ratios, chained, ratio, sign_interval

NAN = float("nan")


@pytest.mark.parametrize("count", [1, 5, 6, 9, 10, 37, 200])
@pytest.mark.parametrize("error", [0.05, 0.001])
def test_the_interval_holds_what_the_sign_test_does_not_reject(count: int, error: float) -> None:
    values = np.arange(count, dtype=np.float64)
    low, high = sign_interval(values, error)
    for k in range(1, count):
        between = k - 0.5  # k of the values are below it
        rejected = binomtest(k, count, 0.5).pvalue <= error
        assert (low <= between <= high) == (not rejected)


def test_few_blocks_give_no_interval() -> None:
    found = ratio(np.array([2.0] * 5), np.ones(5), 0.05)
    assert found == Ratio(2.0, 0.0, math.inf, 5)
    assert found.inverse == Ratio(0.5, 0.0, math.inf, 5)
    assert ratio(np.array([NAN, 1.0]), np.array([1.0, NAN]), 0.05) is None


def test_blocks_in_which_one_did_not_run_do_not_count() -> None:
    one = np.array([2.0, NAN, 2.0, 2.0, 9.0])
    other = np.array([1.0, 1.0, 1.0, 1.0, NAN])
    found = ratio(one, other, 0.5)
    assert found is not None and (found.value, found.blocks) == (2.0, 3)


def test_load_that_both_share_does_not_widen_the_interval() -> None:
    generator = np.random.default_rng(5)
    load = np.exp(generator.normal(0, 1, 200))
    found = ratio(1.05 * load, load, 0.01)
    assert found is not None and found.low == found.high == pytest.approx(1.05)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(3), 0
    for _ in range(1000):
        logs = np.sort(generator.standard_cauchy(30))  # no distribution is assumed
        low, high = sign_interval(logs, 0.05)
        covered += low <= 0 <= high
    assert 950 <= covered <= 985  # 95.7 % is what the sign test has for 30 values


def test_what_an_interval_shows() -> None:
    assert Ratio(1.05, 1.02, 1.08, 9).shows_slower(0.01)
    assert not Ratio(1.05, 1.005, 1.08, 9).shows_slower(0.01)
    assert Ratio(1.0, 0.99, 1.01, 9).shows_equal(0.02)
    assert not Ratio(1.0, 0.97, 1.01, 9).shows_equal(0.02)
    assert not Ratio(1.0, 0.99, 1.03, 9).shows_equal(0.02)


def test_engines_of_two_groups_are_compared_by_the_pivot() -> None:
    times = np.array([[1.0, 2.0, NAN]] * 20 + [[1.0, NAN, 3.0]] * 20)
    found = Ratios(times, 0.05).of(2, 1)
    assert found is not None and found.value == pytest.approx(1.5) and found.low > 1.4
    assert Ratios(times[:20], 0.05).of(2, 1) is None
    a, b = Ratio(2, 1.5, 3, 9), Ratio(3, 2, 4, 5)
    assert chained(a, b) == Ratio(6, 3, 12, 5)


def test_more_engines_need_more_blocks_for_the_same_statement() -> None:
    pair = np.array([[1.0, 1.1]] * 8)
    many = np.hstack([pair, np.ones((8, 8))])
    two, of_ten = Ratios(pair, 0.05).of(1, 0), Ratios(many, 0.05).of(1, 0)
    assert two is not None and two.low > 1
    assert of_ten is not None and of_ten.low == 0
