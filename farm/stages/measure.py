"""measure: latency and throughput of the engine, alone on its node.

Latency is the time of one `run` call on the host: input in host memory to outputs in host
memory. Samples are taken for a given time and never fewer than the percentiles need (MLPerf
LoadGen: 64 for p90, 130 for p95, 662 for p99, at 99 % confidence); a percentile that the samples
do not carry is left out. Where a runtime times its accelerator, that part's median stands beside.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from farm.datasets.prepared import Prepared
from farm.detections import Floats
from farm.inputs import MeasureInputs
from farm.runtimes import Session
from farm.stages import Context
from farm.stages.engines import device_time_ms, opened, uses_cuda_graph
from farm.stages.statistics import summarise
from farm.units import Dims


def run(inputs: MeasureInputs, context: Context) -> Mapping[str, Any]:
    """Leaves `samples.npy`: every latency in ms, float64, in the order taken."""
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
    """Milliseconds of each run: for `seconds`, then on to `least` runs, for `most` seconds; and
    of those the accelerator's, where it is known."""
    clock = time.perf_counter_ns
    taken: list[int] = []
    device: list[float] = []
    began = clock()
    enough, limit = began + int(seconds * 1e9), began + int(max(most, seconds) * 1e9)
    while (now := clock()) < enough or (len(taken) < least and now < limit) or len(taken) < 2:
        before = clock()
        session.run(images)
        taken.append(clock() - before)
        if (own := device_time_ms(session)) is not None:
            device.append(own)
    return np.array(taken, np.float64) / 1e6, device


def fitted(prepared: Prepared, dims: Dims) -> Floats:
    """A batch of real prepared images, cut or zero-padded to exactly `dims`."""
    batch = np.zeros(dims.as_tuple(), np.float32)
    for i in range(dims.n):
        image = prepared.image(i % len(prepared))[:, : dims.h, : dims.w]
        batch[i, :, : image.shape[1], : image.shape[2]] = image
    return batch
