"""A matrix's options for this runtime, as the adapter uses them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from farm.errors import InputError, nearest

if TYPE_CHECKING:
    from farm.specs import EngineOptions


@dataclass(frozen=True)
class TensorRtOptions:
    """Defaults are the library's own.

    plugins: libraries to load first. tactic_sources: names of the only ones that may be used.
    timing_cache: the file that keeps kernels' times, or a folder with one file per GPU model and
    version. cuda_graph: run as one, where shapes are fixed and known beforehand.
    builder_flags: lower the precision of an fp32 file by the builder's flags; without it the
    file itself says what is to be computed how.
    """

    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    plugins: tuple[str, ...] = ()
    tactic_sources: tuple[str, ...] = ()
    timing_cache: str | None = None
    cuda_graph: bool = False
    builder_flags: bool = False


def parse(options: EngineOptions, ahead_of_time: bool = False) -> TensorRtOptions:
    """Raises InputError for one that there is not."""
    known = {field.name for field in fields(TensorRtOptions)}
    if ahead_of_time:
        known -= NOT_AHEAD_OF_TIME
    for name, _ in options.options:
        if name not in known:
            raise InputError(f"{options.runtime} has no option {name!r}{nearest(name, known)}")
    values = {name: _plain(value) for name, value in options.options}
    return TensorRtOptions(**{name: value for name, value in values.items() if value is not None})


NOT_AHEAD_OF_TIME = {
    "version_compatible",
    "hardware_compatible",
    "tactic_sources",
    "timing_cache",
    "builder_flags",
}
"""What TensorRT-RTX has not: it times nothing, is always strongly typed, and builds for a compute
capability instead."""


def _plain(value: Any) -> Any:
    """Paths may come as the farm's `File`, whose digest is in the engine's key."""
    if isinstance(value, list | tuple):
        return tuple(_plain(item) for item in value)
    return getattr(value, "path", value)
