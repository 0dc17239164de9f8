"""What all sessions of ONNX Runtime have in common, and one on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

CPU = "CPUExecutionProvider"


def session_options(threads: int) -> ort.SessionOptions:
    """Return the options of a session on so many cores, which logs errors only.

    Its threads sleep between runs. By default they spin, which slows down whatever runs next on
    their cores: engines that took turns doubled each other's latency.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def cpu_session(model: Path | bytes, threads: int) -> ort.InferenceSession:
    """Open an ONNX file, or its bytes, on the CPU."""
    file = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(file, session_options(threads), providers=[CPU])


class CpuSession:
    """A session whose images and outputs are in the host's memory.

    outputs: the names of those to compute; None for all that the model has.
    """

    def __init__(self, session: ort.InferenceSession, outputs: Sequence[str] | None = None) -> None:
        self._session: ort.InferenceSession | None = session
        self._input = session.get_inputs()[0].name
        known = [output.name for output in session.get_outputs()]
        self._outputs = known if outputs is None else list(outputs)

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Run the model; see `farm.runtimes.Session`."""
        assert self._session is not None
        values = self._session.run(self._outputs, {self._input: images})
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None
