"""build: an engine of one runtime from the ONNX file, for one target."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from farm.catalog import RUNTIMES

if TYPE_CHECKING:
    from farm.specs import BuildInputs, EngineOptions
    from farm.stages import Context


def run(inputs: BuildInputs, context: Context) -> Mapping[str, Any]:
    """Leave the folder `engine`, whose files are the runtime's own.

    Raises:
        StepFailed: the runtime cannot build this file with these options.
        TransientFailure: what the runtime needs is not on this machine, or memory ran out.
    """
    runtime = RUNTIMES[inputs.options.runtime]
    engine = context.folder / "engine"
    engine.mkdir()
    started = time.perf_counter()
    options = _with_timing_cache(inputs.options, context)
    figures = runtime.build(context.artifact(inputs.exported) / "model.onnx", engine, options)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in engine.rglob("*") if path.is_file())
    return {**(figures or {}), "build_s": seconds, "engine_bytes": size}


def _with_timing_cache(options: EngineOptions, context: Context) -> EngineOptions:
    """Add a timing cache in the store, if the runtime has one and the matrix names no other."""
    known = RUNTIMES[options.runtime].option_names
    if "timing_cache" not in known or "timing_cache" in dict(options.options):
        return options
    kept = ("timing_cache", f"{context.store.root}/timing-caches/")
    return replace(options, options=(*options.options, kept))
