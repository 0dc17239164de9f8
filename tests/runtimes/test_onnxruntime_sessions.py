"""Sessions of ONNX Runtime on the CPU: the options that they are opened with."""

from __future__ import annotations

from farm.runtimes.onnxruntime.cpu import _options
from farm.specs import Dims, EngineOptions, Shape

_SPINNING = "session.force_spinning_stop"


def _opened_with(*options: tuple[str, str]) -> str:
    shape = Shape("fixed", *[Dims(1, 3, 32, 32)] * 3)
    settings = _options(EngineOptions("onnxruntime", "fp32", shape, options=options), threads=2)
    return str(settings.get_session_config_entry(_SPINNING))


def test_threads_sleep_between_runs() -> None:
    """So that they take no time of the engine whose turn is next."""
    assert _opened_with() == "1"


def test_an_option_of_the_matrix_counts() -> None:
    assert _opened_with((_SPINNING, "0")) == "0"
