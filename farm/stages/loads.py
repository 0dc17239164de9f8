"""Loads on an open engine, for `measure`: requests at once, and requests that come at random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from farm.measuring.server import Service, highest_rate
from farm.measuring.throughput import (
    Load,
    Throughput,
    best_throughput,
    runs_per_second,
    stream_counts,
)
from farm.stages.engines import concurrent, runs_concurrently

if TYPE_CHECKING:
    from farm.detections import Floats
    from farm.runtimes import Session
    from farm.specs import MeasureInputs

GPU_STREAMS = 4
"""The most requests at once that are tried on a GPU: its memory holds the tensors of each."""


def throughput(
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


def server(
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
