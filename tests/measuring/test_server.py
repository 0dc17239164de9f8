"""The mode `server`, on a simulated clock: against queueing theory, and what a latency counts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from math import exp, factorial

import numpy as np
import pytest

from farm.measuring import server
from farm.measuring.server import Held, RealClock, Service, highest_rate


class Simulated:
    """A clock that only waiting and serving move on."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


def served_in(*seconds: float) -> Service:
    """A server of one request at a time, whose requests take these times, and then the last."""
    clock = Simulated()
    times: Iterator[float] = iter(seconds)
    last = [seconds[-1]]

    def serve() -> None:
        clock.time += next(times, last[0])

    return Service([serve], 1 / seconds[-1], clock)


def waits_longer(rate: float, service: float, seconds: float) -> float:
    """The fraction of requests that wait longer than `seconds` in an M/D/1 queue: Erlang, 1909."""
    load, terms = rate * service, range(int(seconds / service) + 1)
    past = [rate * (number * service - seconds) for number in terms]
    total = sum(exp(-one) * one**number / factorial(number) for number, one in enumerate(past))
    return 1 - (1 - load) * total


def theory(service: float, bound: float) -> float:
    """The rate at which 1 in 100 requests takes longer than the bound."""
    low, high = 0.0, 1 / service
    for _ in range(60):
        rate = (low + high) / 2
        low, high = (
            (low, rate) if waits_longer(rate, service, bound - service) > 0.01 else (rate, high)
        )
    return low


def test_the_theory_is_that_of_textbooks() -> None:
    assert waits_longer(50, 0.01, 0.0) == pytest.approx(0.5)  # the server is busy half of the time
    mean = sum(waits_longer(50, 0.01, i * 1e-4) * 1e-4 for i in range(2000))
    assert mean == pytest.approx(0.005, rel=0.02)  # load x service / 2 / (1 - load)


@pytest.mark.parametrize("bound", [0.015, 0.03, 0.05, 0.1])
def test_the_rate_is_that_of_an_m_d_1_queue(bound: float) -> None:
    found = highest_rate(served_in(0.01), bound, seconds=1e6, least=50_000)
    assert found.rate == pytest.approx(theory(0.01, bound), rel=0.04)
    assert found.p99 is not None and found.p99 <= bound
    assert found.failed is not None and 0 < found.failed - (found.rate or 0) < 0.031 * found.failed
    # With the requests of a real trial the answer is noisier.
    short = highest_rate(served_in(0.01), bound, seconds=1e6)
    assert short.rate == pytest.approx(theory(0.01, bound), rel=0.1 if bound > 0.02 else 0.5)


def test_no_rate_holds_a_bound_below_the_time_of_one_request() -> None:
    service = served_in(0.01)
    found = highest_rate(service, 0.009, seconds=1e6)
    assert found.rate == 0.0 and found.p99 is None and found.failed == pytest.approx(0.1, rel=0.1)
    assert service.clock.now() < 2000  # its trials ended with their first late requests


def test_without_time_for_a_trial_nothing_is_said() -> None:
    nothing = highest_rate(served_in(0.01), 0.05, seconds=52)
    assert nothing == Held(None)
    first = highest_rate(served_in(0.01), 0.05, seconds=54)  # 2648 requests take 53 s
    assert first.rate == 50.0 and first.p99 is not None
    assert nothing.figures(0.05, 2) == {
        "server_rate_per_s": None, "server_p99_ms": None, "server_bound_ms": 50.0,
        "server_streams": 2, "server_failed_rate_per_s": None,
    }  # fmt: skip


def test_a_latency_counts_from_the_moment_at_which_a_request_was_due() -> None:
    """Those that come while the server is stuck wait, too."""
    service = served_in(1.0, 0.001)  # the first takes a second
    found = service.latencies(100.0, 300, most_late=300, bound=0.5)
    assert found is not None
    due = np.cumsum(np.random.default_rng(server.SEED).exponential(size=300)) / 100
    until = due[0] + 1.0
    stuck = due < until
    assert 60 < stuck.sum() < 140
    expected = until - due[stuck] + 0.001 * np.arange(stuck.sum())
    np.testing.assert_allclose(found[stuck], expected, atol=1e-9)
    assert service.latencies(100.0, 300, most_late=3, bound=1e-4) is None


def test_arrivals_are_the_same_at_every_rate_and_come_at_random() -> None:
    slow = served_in(1e-12).latencies(1.0, 5000, 5000, 1.0)
    assert slow is not None and slow.max() < 1e-9
    clocks = []
    for rate in (10.0, 20.0):
        service = served_in(1e-12)
        service.latencies(rate, 5000, 5000, 1.0)
        clocks.append(service.clock.now() - 1000)
    assert clocks[0] == pytest.approx(2 * clocks[1])
    assert clocks[0] == pytest.approx(500, rel=0.05)


def test_requests_are_served_at_once_by_as_many_as_there_are() -> None:
    barrier, seen = threading.Barrier(3, timeout=60), set[int]()

    def serve() -> None:
        seen.add(threading.get_ident())
        barrier.wait()  # until three are in hand

    found = Service([serve] * 3, 1000.0).latencies(1000.0, 30, 30, 60.0)
    assert found is not None and len(found) == 30 and len(seen) == 3
    assert (found > 0).all()


def test_the_real_clock_waits_no_less_than_it_should() -> None:
    clock = RealClock()
    moment = clock.now() + 0.02
    clock.wait_until(moment)
    assert clock.now() >= moment
    clock.wait_until(moment - 10)  # over: no error
