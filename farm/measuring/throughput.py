"""Throughput: requests at once, in several sizes of batches, and the best load of those tried."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from farm.runtimes import Session

log = logging.getLogger(__name__)

Trial = Callable[["Load", float], float]
"""Puts a load on an engine for so many seconds; returns images a second."""


@dataclass(frozen=True)
class Load:
    """What an engine is given: `streams` requests at once, of `batch` images each."""

    batch: int
    streams: int


@dataclass(frozen=True)
class Throughput:
    """The best load, with images a second. rates: those of all loads tried, by shorter trials."""

    load: Load
    images_per_s: float
    rates: dict[Load, float]

    def figures(self) -> dict[str, Any]:
        """Return the figures of a record."""
        return {
            "throughput_per_s": self.images_per_s,
            "throughput_batch": self.load.batch,
            "throughput_streams": self.load.streams,
            "throughput_rates": {f"{one.batch}x{one.streams}": r for one, r in self.rates.items()},
        }


def stream_counts(most: int) -> list[int]:
    """Return the numbers of streams to try: 1 and `most`, then the powers of 2 between them."""
    powers = [1 << bit for bit in range(1, most.bit_length()) if 1 << bit < most]
    return list(dict.fromkeys([1, most, *reversed(powers)]))


def best_throughput(
    trial: Trial,
    batches: Sequence[int],
    streams: Sequence[int],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Throughput:
    """Find the load with the most images a second, in about so many seconds.

    First every number of streams with the first of the batches, then the other batches with the
    best of these; half of the time is for that, and no load is begun when it is over. The rate of
    the best is then taken anew in the other half: of the best of several noisy rates the noise is
    likely in its favour. A load that fails, as for memory, is left out.

    Raises:
        Exception: what the trial of the first load raised.
    """
    first, rates = Load(batches[0], streams[0]), dict[Load, float]()
    until, window = clock() + seconds / 2, seconds / 2 / (len(batches) + len(streams) - 1)

    def attempt(load: Load) -> None:
        if load in rates or (rates and clock() >= until):
            return
        try:
            rates[load] = trial(load, window)
        except Exception as error:  # a library's, of any kind
            if load == first:
                raise
            log.info("throughput without %s: %s", load, error)

    def best() -> Load:
        return max(rates, key=lambda load: rates[load])

    for count in streams:
        attempt(Load(batches[0], count))
    most = best().streams
    for batch in batches[1:]:
        attempt(Load(batch, most))
    return Throughput(best(), trial(best(), seconds / 2), rates)


def runs_per_second(
    sessions: Sequence[Session], images: npt.NDArray[np.float32], seconds: float
) -> float:
    """Keep all sessions busy at once, in a thread each, and return their runs a second together.

    Each runs once before, since a first run allocates. A run that the end of the time cuts counts
    by its part before that, so that runs longer than `seconds` are no loss.
    """

    def keep_busy(session: Session) -> float:
        now = began = time.perf_counter()
        done, until = 0, began + seconds
        while True:
            before = now
            session.run(images)
            now = time.perf_counter()
            if now >= until:
                return done + (until - before) / (now - before)
            done += 1

    with ThreadPoolExecutor(len(sessions)) as pool:
        list(pool.map(lambda session: session.run(images), sessions))
        return sum(pool.map(keep_busy, sessions)) / seconds
