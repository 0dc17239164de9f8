"""ONNX Runtime on the CPU: keeps its optimised model and runs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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


def open_engine(folder: Path, options: EngineOptions, threads: int) -> CpuEngine:
    """Open the model that `build` optimised."""
    return CpuEngine(partial(_open, folder, options), threads)


class CpuEngine(CpuSession):
    """A session that can be opened again for several requests at once.

    again: opens the model for a number of threads.
    """

    def __init__(self, again: Callable[[int], ort.InferenceSession], threads: int) -> None:
        super().__init__(again(threads))
        self._again, self._threads = again, threads

    def concurrent(self, streams: int) -> list[CpuSession]:
        """Open the model once more, for calls at once; see `farm.runtimes.Concurrent`."""
        # The thread of each call works too: with the pool's they are as many as the cores.
        shared = self._again(max(1, self._threads - streams + 1))
        return [CpuSession(shared) for _ in range(streams)]


def _open(folder: Path, options: EngineOptions, threads: int) -> ort.InferenceSession:
    settings = _options(options, threads)
    # The file is optimised already; doing it again would only cost time.
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(folder / "model.onnx"), settings, providers=[CPU])


def _options(options: EngineOptions, threads: int) -> ort.SessionOptions:
    settings = session_options(threads)
    for name, value in options.options:
        settings.add_session_config_entry(name, str(value))
    return settings
