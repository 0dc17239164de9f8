"""ONNX Runtime on the CPU: keeps its optimised model and runs it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

if TYPE_CHECKING:
    from farm.specs import EngineOptions

_PROVIDERS = ["CPUExecutionProvider"]


def build(onnx: Path, folder: Path, options: EngineOptions) -> None:
    """Optimise for this machine's CPU and keep the result as `model.onnx`."""
    settings = _settings(options, threads=1)
    settings.optimized_model_filepath = str(folder / "model.onnx")
    ort.InferenceSession(_file(onnx, options.precision), settings, providers=_PROVIDERS)


def _file(onnx: Path, precision: str) -> str | bytes:
    """What ONNX Runtime is given of a file in that precision."""
    if precision == "bf16":
        from farm.runtimes.onnxruntime import cpu_files

        return cpu_files.emulated(onnx)
    if precision == "int8":
        from farm.runtimes.onnxruntime import cpu_files

        return cpu_files.unsigned(onnx)
    return str(onnx)


def open_engine(folder: Path, options: EngineOptions, threads: int) -> OnnxRuntimeSession:
    settings = _settings(options, threads)
    # The file is optimised already; doing it again would only cost time.
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = folder / "model.onnx"
    return OnnxRuntimeSession(ort.InferenceSession(str(model), settings, providers=_PROVIDERS))


def _settings(options: EngineOptions, threads: int) -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    # Optimising for the machine's own CPU is meant: the engine's key names that CPU.
    settings.log_severity_level = 3
    for name, value in options.options:
        settings.add_session_config_entry(name, str(value))
    return settings


class OnnxRuntimeSession:
    def __init__(self, session: ort.InferenceSession) -> None:
        self._session: ort.InferenceSession | None = session
        self._input = session.get_inputs()[0].name
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        assert self._session is not None
        values = self._session.run(self._outputs, {self._input: images})
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        self._session = None
