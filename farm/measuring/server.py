"""The mode `server`: requests that come at random, and the highest rate that an engine holds."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from farm.measuring.sampling import NEEDED, Samples

log = logging.getLogger(__name__)

SEED = 0
"""Of the arrivals. At every rate they are the same ones, closer together or further apart, so that
a rate is not held because of luckier arrivals than a lower one had."""

REQUESTS = 4 * NEEDED[99]
"""The least of a trial. Latencies of a queue are not independent, so a p99 needs more than MLPerf's
samples: over simulated queues the rate then deviates by 7 %, with those alone by 10 to 17 %."""

SECONDS = 2.0
"""The least length of a trial."""

PRECISION = 0.03
"""The search ends when the highest rate that held and the lowest that did not are so close."""

LEAST_LOAD = 1e-3
"""Of the capacity: lower rates are not tried."""


class Clock(Protocol):
    """Time in seconds; of tests a simulated one."""

    def now(self) -> float:
        """Return the time."""

    def wait_until(self, moment: float) -> None:
        """Return at that time, or at once where it is over."""


class RealClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the time."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """Sleep until that time."""
        if (left := moment - self.now()) > 0:
            time.sleep(left)


@dataclass(frozen=True)
class Service:
    """An engine as a server. serve: handles one request, a function for each that runs at once.

    capacity: how many requests a second they finish together under full load. Above it a queue
    grows without end.
    """

    serve: Sequence[Callable[[], object]]
    capacity: float
    clock: Clock = field(default_factory=RealClock)

    def latencies(self, rate: float, requests: int, most_late: int, bound: float) -> Samples | None:
        """Return the latency of each request in seconds, from the moment at which it was due.

        Requests are due at random, independently of each other (Poisson), `rate` a second; they
        wait in one queue. None as soon as more than `most_late` took longer than `bound`.
        """
        gaps = np.random.default_rng(SEED).exponential(size=requests)
        due = self.clock.now() + np.cumsum(gaps) / rate
        numbers, late = itertools.count(), list[int]()  # taken and added to by all threads
        found = np.zeros(requests)

        def work(serve: Callable[[], object]) -> None:
            while (number := next(numbers)) < requests and len(late) <= most_late:
                self.clock.wait_until(due[number])
                serve()
                found[number] = self.clock.now() - due[number]
                if found[number] > bound:
                    late.append(number)

        with ThreadPoolExecutor(len(self.serve)) as pool:
            list(pool.map(work, self.serve))
        return found if len(late) <= most_late else None


@dataclass(frozen=True)
class Held:
    """The highest rate in requests a second that held the bound, with its p99 in seconds.

    rate: 0 where none held it, None where the time was not enough to tell. failed: the lowest rate
    tried that did not hold it.
    """

    rate: float | None
    p99: float | None = None
    failed: float | None = None

    def figures(self, bound: float, streams: int) -> dict[str, Any]:
        """Return the figures of a record."""
        return {
            "server_rate_per_s": self.rate,
            "server_p99_ms": None if self.p99 is None else self.p99 * 1000,
            "server_bound_ms": bound * 1000,
            "server_streams": streams,
            "server_failed_rate_per_s": self.failed,
        }


def highest_rate(service: Service, bound: float, seconds: float, least: int = REQUESTS) -> Held:
    """Find the highest rate at which 99 of 100 requests are answered within `bound` seconds.

    By bisection below the capacity. No trial is begun that would not end within `seconds`. least:
    how many requests a trial has at least.
    """
    until, high = service.clock.now() + seconds, service.capacity
    held = Held(None)
    while high > LEAST_LOAD * service.capacity:
        low = held.rate or 0.0
        if high - low <= PRECISION * high:
            return held
        rate = (low + high) / 2
        requests = max(least, math.ceil(rate * SECONDS))
        if service.clock.now() + requests / rate > until:
            log.warning("no time for %d requests at %.1f a second", requests, rate)
            return held
        latencies = service.latencies(rate, requests, requests // 100, bound)
        if latencies is None:
            high = rate
            held = replace(held, failed=rate)
        else:
            p99 = float(np.percentile(latencies, 99, method="inverted_cdf"))
            held = replace(held, rate=rate, p99=p99)
    return replace(held, rate=0.0)
