"""build: an engine of one runtime from the ONNX file, for one target."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from farm.inputs import BuildInputs
from farm.runtimes import runtime_module
from farm.stages import Context


def run(inputs: BuildInputs, context: Context) -> Mapping[str, Any]:
    """Leaves `engine/`, whose files are the runtime's own."""
    module = runtime_module(inputs.options.runtime)
    engine = context.folder / "engine"
    engine.mkdir()
    started = time.perf_counter()
    module.build(context.artifact(inputs.exported) / "model.onnx", engine, inputs.options)
    seconds = time.perf_counter() - started
    size = sum(path.stat().st_size for path in engine.rglob("*") if path.is_file())
    return {"build_s": seconds, "engine_bytes": size}
