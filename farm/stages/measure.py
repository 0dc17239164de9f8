"""measure: latency with percentiles, and throughput, of the engine alone on its node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.datasets.prepared import Prepared
from farm.measuring.machine import CpuTimes, now, peak_host_bytes, watched_machine
from farm.measuring.sampling import no_collection, sample, summarise
from farm.measuring.server import Service, highest_rate
from farm.measuring.throughput import (
    Load,
    Throughput,
    best_throughput,
    runs_per_second,
    stream_counts,
)
from farm.stages.engines import (
    concurrent,
    device_time_ms,
    includes,
    opened,
    runs_concurrently,
    uses_cuda_graph,
)

if TYPE_CHECKING:
    from farm.detections import Floats
    from farm.runtimes import Session
    from farm.specs import Dims, MeasureInputs
    from farm.stages import Context

GPU_STREAMS = 4
"""The most requests at once that are tried on a GPU: its memory holds the tensors of each."""


def run(inputs: MeasureInputs, context: Context) -> Mapping[str, Any]:
    """Return latency, throughput and the state of the machine; leave `samples.npy`: every latency
    in ms, in their order."""
    prepared = Prepared(context.artifact(inputs.prepared))
    shape, on_gpu = inputs.engine.options.shape, inputs.target.accelerator is not None
    images = fitted(prepared, shape.opt)

    def batch_of(count: int) -> Floats:
        return fitted(prepared, replace(shape.opt, n=count))

    since = CpuTimes.now()
    with (
        opened(inputs.engine, context, inputs.threads) as session,
        watched_machine(on_gpu, since, inputs.seconds) as machine,
    ):
        sample(session, images, inputs.warmup_seconds, inputs.max_seconds, least=3)
        with no_collection():
            samples, device = sample(
                session, images, inputs.seconds, inputs.max_seconds, inputs.min_samples,
                partial(device_time_ms, session),
            )  # fmt: skip
            memory, latency = peak_host_bytes(), summarise(samples, device, shape.opt.n)
            throughput = highest_throughput(inputs, session, batch_of, latency)
            server = as_server(inputs, session, images, throughput)
        graph = uses_cuda_graph(session)
    np.save(context.folder / "samples.npy", samples)
    return {
        "measured_at": now(),
        **latency,
        **throughput.figures(),
        **server,
        **machine,
        "peak_host_bytes": memory,
        "latency_includes": includes(inputs.engine),
        "cuda_graph": graph,
        "threads": inputs.threads,
        "batch": shape.opt.n,
        "input_shape": str(shape.opt),
        "warmup_s": inputs.warmup_seconds,
    }


def fitted(prepared: Prepared, dims: Dims) -> Floats:
    """Return a batch of real prepared images, cut or zero-padded to exactly `dims`."""
    batch = np.zeros(dims.as_tuple(), np.float32)
    for i in range(dims.n):
        image = prepared.image(i % len(prepared))[:, : dims.h, : dims.w]
        batch[i, :, : image.shape[1], : image.shape[2]] = image
    return batch


def highest_throughput(
    inputs: MeasureInputs,
    session: Session,
    images: Callable[[int], Floats],
    latency: Mapping[str, Any],
) -> Throughput:
    """Find the best load; where there is one alone, or no time for others, it is the latency's.

    images: returns a batch of so many. latency: figures of one run after another.
    """
    shape, seconds = inputs.engine.options.shape, inputs.throughput_seconds
    if seconds is None:
        seconds = latency["samples"] * latency["latency_mean_ms"] / 1000
    batches = {n: images(n) for n in (shape.opt.n, shape.max.n, shape.min.n)}
    most = GPU_STREAMS if inputs.target.accelerator else inputs.threads
    streams = stream_counts(most if runs_concurrently(session) else 1)
    if not seconds or len(batches) == len(streams) == 1:
        return Throughput(Load(shape.opt.n, 1), latency["serial_images_per_s"], {})

    def trial(load: Load, seconds: float) -> float:
        with concurrent(session, load.streams) as sessions:
            return load.batch * runs_per_second(sessions, batches[load.batch], seconds)

    return best_throughput(trial, list(batches), streams, seconds)


def as_server(
    inputs: MeasureInputs, session: Session, images: Floats, found: Throughput
) -> dict[str, Any]:
    """Return the figures of the engine as a server of requests of one batch, `images`, each, with
    as many requests at once as gave most of them; {} where none are asked for.

    found: the throughput, which has the loads that were tried.
    """
    if inputs.server_p99_ms is None:
        return {}
    bound, batch = inputs.server_p99_ms / 1000, len(images)
    rates = {load: rate for load, rate in found.rates.items() if load.batch == batch}
    rates = rates or {found.load: found.images_per_s}
    load = max(rates, key=lambda one: rates[one])
    with concurrent(session, load.streams) as sessions:
        serve = [partial(one.run, images) for one in sessions]
        for first in serve:  # a first run allocates
            first()
        held = highest_rate(Service(serve, rates[load] / batch), bound, inputs.server_seconds)
    return held.figures(bound, load.streams)
