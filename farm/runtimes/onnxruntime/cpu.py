"""ONNX Runtime on the CPU: keeps its optimised model and runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort

from farm.runtimes.onnxruntime.sessions import CPU, CpuSession, session_options

if TYPE_CHECKING:
    from farm.specs import EngineOptions


def build(onnx: Path, folder: Path, options: EngineOptions) -> None:
    """Optimise for this machine's CPU and keep the result as `model.onnx`."""
    settings = _options(options, threads=1)
    # Optimising for the machine's own CPU is meant: the engine's key names that CPU.
    settings.optimized_model_filepath = str(folder / "model.onnx")
    ort.InferenceSession(_file(onnx, options.precision), settings, providers=[CPU])


def _file(onnx: Path, precision: str) -> str | bytes:
    """Return the file that ONNX Runtime reads in place of one in that precision."""
    if precision == "bf16":
        from farm.runtimes.onnxruntime import cpu_files

        return cpu_files.emulated(onnx)
    if precision == "int8":
        from farm.runtimes.onnxruntime import cpu_files

        return cpu_files.unsigned(onnx)
    return str(onnx)


def open_engine(folder: Path, options: EngineOptions, threads: int) -> CpuSession:
    """Open the model that `build` optimised."""
    settings = _options(options, threads)
    # The file is optimised already; doing it again would only cost time.
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = folder / "model.onnx"
    return CpuSession(ort.InferenceSession(str(model), settings, providers=[CPU]))


def _options(options: EngineOptions, threads: int) -> ort.SessionOptions:
    settings = session_options(threads)
    for name, value in options.options:
        settings.add_session_config_entry(name, str(value))
    return settings
