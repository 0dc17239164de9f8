"""Samples of latency, one run after another, and the figures that they carry."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from farm.runtimes import Session

Samples = npt.NDArray[np.float64]

NEEDED = {50: 10, 90: 64, 95: 130, 99: 662}
"""Samples that a percentile needs for a bound of 99 % confidence: MLPerf inference rules."""

STABLE_DRIFT = 0.10
"""Steady: the medians of the first and second half differ by less than this (Model Navigator's
window rule, on medians, since a shared machine gives single slow samples)."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's garbage collector out of what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def sample(
    session: Session,
    images: npt.NDArray[np.float32],
    seconds: float,
    most: float,
    least: int,
    device_time: Callable[[], float | None] = lambda: None,
) -> tuple[Samples, Samples]:
    """Measure runs for `seconds`, and on until there are `least` runs or `most` seconds are over.

    There are enough for a median in any case, or `least` if that is fewer.

    device_time: returns how long the accelerator alone took in the last run, in ms, or None.

    Returns milliseconds of each run, and the accelerator's own: empty where they are not known.
    """
    clock = time.perf_counter_ns
    latencies: list[int] = []
    device: list[float] = []
    began = clock()
    enough, limit = began + int(seconds * 1e9), began + int(max(most, seconds) * 1e9)
    fewest = min(least, NEEDED[50])
    while (
        (now := clock()) < enough
        or (len(latencies) < least and now < limit)
        or len(latencies) < fewest
    ):
        before = clock()
        session.run(images)
        latencies.append(clock() - before)
        if (own := device_time()) is not None:
            device.append(own)
    return np.array(latencies, np.float64) / 1e6, np.array(device, np.float64)


def summarise(samples: Samples, device: Samples, batch: int) -> dict[str, Any]:
    """Return latency in ms, and images a second of one run after another; None where the samples
    are too few.

    device: the accelerator's part of each sample, or empty. The rest of a sample is the host's.
    """
    figures: dict[str, Any] = {
        f"latency_p{p}_ms": float(np.percentile(samples, p)) if len(samples) >= least else None
        for p, least in NEEDED.items()
    }
    mean = float(samples.mean())
    half = len(samples) // 2
    first, second = np.median(samples[:half]), np.median(samples[half:])
    return figures | {
        "latency_mean_ms": mean,
        "latency_min_ms": float(samples.min()),
        "latency_cov": float(samples.std() / mean),
        "device_p50_ms": float(np.median(device)) if device.size else None,
        "host_p50_ms": float(np.median(samples - device)) if device.size else None,
        "samples": len(samples),
        "serial_images_per_s": batch * 1000 / mean,
        "stable": bool(abs(first - second) <= STABLE_DRIFT * min(first, second)),
    }
