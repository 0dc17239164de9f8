"""measure: latency with percentiles, and throughput, of the engine alone on its node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from farm.datasets.prepared import Prepared
from farm.measuring.machine import now, peak_host_bytes, watched_machine
from farm.measuring.sampling import no_collection, sample, summarise
from farm.stages import loads
from farm.stages.engines import device_time_ms, includes, opened, uses_cuda_graph

if TYPE_CHECKING:
    from farm.detections import Floats
    from farm.specs import MeasureInputs
    from farm.stages import Context
    from farm.units import Dims


def run(inputs: MeasureInputs, context: Context) -> Mapping[str, Any]:
    """Return latency, throughput and the state of the machine; leave `samples.npy`: every latency
    in ms, in their order."""
    prepared = Prepared(context.artifact(inputs.prepared))
    shape, on_gpu = inputs.engine.options.shape, inputs.target.accelerator is not None
    images = fitted(prepared, shape.opt)

    def batch_of(count: int) -> Floats:
        return fitted(prepared, replace(shape.opt, n=count))

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
            throughput = loads.throughput(inputs, session, batch_of, latency)
            server = loads.server(inputs, session, images, throughput)
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
