"""ONNX Runtime's CUDA provider: runs the ONNX file itself, node by node, on an NVIDIA GPU."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.runtimes.onnxruntime import providers
from farm.runtimes.onnxruntime.binding import BoundSession, is_fixed
from farm.runtimes.onnxruntime.options import CudaOptions, cuda_options
from farm.runtimes.onnxruntime.sessions import CPU
from farm.runtimes.tensorrt import cuda

if TYPE_CHECKING:
    from farm.specs import EngineOptions

log = logging.getLogger(__name__)

PROVIDER = "CUDAExecutionProvider"

_NOT_CAPTURED = {"Compress", "If", "Loop", "NonMaxSuppression", "NonZero", "Scan", "Unique"}
"""The sizes of their results, or what runs next, are known only while they run."""


def build(onnx: Path, folder: Path, options: EngineOptions) -> Mapping[str, Any]:
    """Leave `model.onnx`, which was run once, and `providers.json` about it.

    Raises:
        StepFailed: nodes fell back to another provider, which the options do not allow.
        TransientFailure: no GPU or no such provider here, or memory ran out.
    """
    chosen = CudaOptions.read(options)
    cuda.gpus()
    providers.load_libraries()
    providers.require(PROVIDER)
    providers.prepare(onnx, folder)
    facts = providers.build(folder, _providers(options, chosen), options, chosen.allow_fallback)
    return {"fallback": facts.fallback or None}


def open_engine(folder: Path, options: EngineOptions, threads: int) -> BoundSession:
    """Open the model on the GPU, as one CUDA graph where that is chosen and possible.

    Raises:
        TransientFailure: no GPU or no such provider here, or memory ran out.
    """
    chosen = CudaOptions.read(options)
    cuda.gpus()
    providers.load_libraries()
    plain = providers.session(folder / providers.MODEL, _providers(options, chosen), threads)
    if not chosen.cuda_graph:
        return BoundSession(plain, "cuda")
    if reason := _not_capturable(folder, options, plain):
        log.info(f"no CUDA graph: {reason}")
        return BoundSession(plain, "cuda")
    own = _providers(options, chosen, enable_cuda_graph=1)
    session = providers.session(folder / providers.MODEL, own, threads)
    return BoundSession(session, "cuda", cuda_graph=True)


def _providers(options: EngineOptions, chosen: CudaOptions, **more: Any) -> providers.Providers:
    own = cuda_options(options) | more | chosen.provider_options
    return [(PROVIDER, own), (CPU, {})]


def _not_capturable(folder: Path, options: EngineOptions, session: Any) -> str | None:
    """Say why a run cannot be captured: it must use the same memory each time, and not the host."""
    facts = providers.read(folder)
    if options.shape.dynamic:
        return "the shape is not fixed"
    if facts.fallback:
        return f"some nodes run on another provider ({facts.fallback})"
    if found := _NOT_CAPTURED.intersection(facts.operators):
        return f"the model has {', '.join(sorted(found))}"
    free = [output.name for output in session.get_outputs() if not is_fixed(output)]
    return f"the size of {', '.join(free)} is not known beforehand" if free else None
