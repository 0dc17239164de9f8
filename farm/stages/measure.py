"""measure: latency and throughput of the engine, alone on its node, with percentiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.datasets.prepared import Prepared
from farm.measuring.machine import peak_host_bytes, watched_machine
from farm.measuring.sampling import no_collection, sample, summarise
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
    from farm.specs import MeasureInputs
    from farm.stages import Context
    from farm.units import Dims

GPU_STREAMS = 4
"""The most requests at once that are tried on a GPU: its memory holds the tensors of each."""


def run(inputs: MeasureInputs, context: Context) -> Mapping[str, Any]:
    """Return latency, throughput and the state of the machine; leave `samples.npy`: every latency
    in ms, in their order."""
    prepared = Prepared(context.artifact(inputs.prepared))
    shape, on_gpu = inputs.engine.options.shape, inputs.target.accelerator is not None
    images = fitted(prepared, shape.opt)
    with (
        opened(inputs.engine, context, inputs.threads) as session,
        watched_machine(gpu=on_gpu) as machine,
    ):
        sample(session, images, inputs.warmup_seconds, inputs.max_seconds, least=3)
        with no_collection():
            samples, device = sample(
                session, images, inputs.seconds, inputs.max_seconds, inputs.min_samples,
                partial(device_time_ms, session),
            )  # fmt: skip
            memory, latency = peak_host_bytes(), summarise(samples, device, shape.opt.n)
            throughput = _throughput(inputs, prepared, session, latency)
        graph = uses_cuda_graph(session)
    np.save(context.folder / "samples.npy", samples)
    return {
        **latency,
        **throughput.figures(),
        **machine,
        "peak_host_bytes": memory,
        "latency_includes": includes(inputs.engine),
        "cuda_graph": graph,
        "threads": inputs.threads,
        "batch": shape.opt.n,
        "input_shape": str(shape.opt),
        "warmup_s": inputs.warmup_seconds,
    }


def _throughput(
    inputs: MeasureInputs, prepared: Prepared, session: Session, latency: Mapping[str, Any]
) -> Throughput:
    """Find the best load; where there is one alone, or no time for others, it is the latency's."""
    shape, seconds = inputs.engine.options.shape, inputs.throughput_seconds
    if seconds is None:
        seconds = latency["samples"] * latency["latency_mean_ms"] / 1000
    sizes = list(dict.fromkeys([shape.opt.n, shape.max.n, shape.min.n]))
    most = GPU_STREAMS if inputs.target.accelerator else inputs.threads
    streams = stream_counts(most if runs_concurrently(session) else 1)
    if not seconds or len(sizes) == len(streams) == 1:
        only = Load(shape.opt.n, 1)
        return Throughput(only, latency["serial_images_per_s"], {})
    batches = {n: fitted(prepared, replace(shape.opt, n=n)) for n in sizes}

    def trial(load: Load, seconds: float) -> float:
        with concurrent(session, load.streams) as sessions:
            return load.batch * runs_per_second(sessions, batches[load.batch], seconds)

    return best_throughput(trial, sizes, streams, seconds)


def fitted(prepared: Prepared, dims: Dims) -> Floats:
    """Return a batch of real prepared images, cut or zero-padded to exactly `dims`."""
    batch = np.zeros(dims.as_tuple(), np.float32)
    for i in range(dims.n):
        image = prepared.image(i % len(prepared))[:, : dims.h, : dims.w]
        batch[i, :, : image.shape[1], : image.shape[2]] = image
    return batch
