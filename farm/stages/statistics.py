"""Percentiles that the samples carry, and whether they were steady."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Samples needed for a 99 %-confidence bound of a percentile: MLPerf inference rules.
NEEDED = {50: 10, 90: 64, 95: 130, 99: 662}

STABLE_DRIFT = 0.10
"""Steady: the medians of the first and second half differ by less than this (Model Navigator's
window rule, on medians, since a shared machine gives single slow samples)."""


def summarise(samples: npt.NDArray[np.float64], batch: int) -> dict[str, Any]:
    """Latency in ms of one run, throughput in images a second; null where samples are too few."""
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
        "samples": len(samples),
        "throughput_per_s": batch * 1000 / mean,
        "stable": bool(abs(first - second) <= STABLE_DRIFT * min(first, second)),
    }
