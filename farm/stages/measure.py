"""measure: latency and throughput of the engine, alone on its node, with percentiles."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from farm.datasets.prepared import Prepared
from farm.stages.engines import device_time_ms, opened, uses_cuda_graph

if TYPE_CHECKING:
    from farm.detections import Floats
    from farm.runtimes import Session
    from farm.specs import MeasureInputs
    from farm.stages import Context
    from farm.units import Dims

# Samples needed for a 99 %-confidence bound of a percentile: MLPerf inference rules.
NEEDED = {50: 10, 90: 64, 95: 130, 99: 662}

STABLE_DRIFT = 0.10
"""Steady: the medians of the first and second half differ by less than this (Model Navigator's
window rule, on medians, since a shared machine gives single slow samples)."""


def summarise(samples: npt.NDArray[np.float64], batch: int) -> dict[str, Any]:
    """Return latency in ms, and throughput in images a second; None where samples are too few."""
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


def run(inputs: MeasureInputs, context: Context) -> Mapping[str, Any]:
    """Return latency and throughput; leave `samples.npy`: every latency in ms, in their order."""
    prepared = Prepared(context.artifact(inputs.prepared))
    shape = inputs.engine.options.shape
    images = fitted(prepared, shape.opt)
    with opened(inputs.engine, context, inputs.threads) as session:
        _sample(session, images, inputs.warmup_seconds, inputs.max_seconds, least=3)
        gc.collect()
        gc.disable()  # no collection inside a sample
        try:
            samples, device = _sample(
                session, images, inputs.seconds, inputs.max_seconds, inputs.min_samples
            )
        finally:
            gc.enable()
        graph = uses_cuda_graph(session)
    np.save(context.folder / "samples.npy", samples)
    return {
        **summarise(samples, shape.opt.n),
        "device_p50_ms": float(np.median(device)) if device else None,
        "cuda_graph": graph,
        "threads": inputs.threads,
        "batch": shape.opt.n,
        "input_shape": str(shape.opt),
        "warmup_s": inputs.warmup_seconds,
    }


def _sample(
    session: Session, images: Floats, seconds: float, most: float, least: int
) -> tuple[npt.NDArray[np.float64], list[float]]:
    """Measure runs for `seconds`, and on until there are `least` runs or `most` seconds are over.

    Returns milliseconds of each run, and the accelerator's own where they are known.
    """
    clock = time.perf_counter_ns
    latencies: list[int] = []
    device: list[float] = []
    began = clock()
    enough, limit = began + int(seconds * 1e9), began + int(max(most, seconds) * 1e9)
    while (
        (now := clock()) < enough or (len(latencies) < least and now < limit) or len(latencies) < 2
    ):
        before = clock()
        session.run(images)
        latencies.append(clock() - before)
        if (own := device_time_ms(session)) is not None:
            device.append(own)
    return np.array(latencies, np.float64) / 1e6, device


def fitted(prepared: Prepared, dims: Dims) -> Floats:
    """Return a batch of real prepared images, cut or zero-padded to exactly `dims`."""
    batch = np.zeros(dims.as_tuple(), np.float32)
    for i in range(dims.n):
        image = prepared.image(i % len(prepared))[:, : dims.h, : dims.w]
        batch[i, :, : image.shape[1], : image.shape[2]] = image
    return batch
