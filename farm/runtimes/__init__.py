"""Runtimes: what runs a model. One file or folder each, and one line in `farm.catalog`.

`farm.runtimes.base` says what a runtime's descriptor has; `null` is the shortest example.
"""

from __future__ import annotations

from farm.runtimes.base import DeviceTimed, Graphed, Runtime, Session

__all__ = ["DeviceTimed", "Graphed", "Runtime", "Session", "runtime_module"]


def runtime_module(name: str) -> Runtime:
    """Return the runtime of this name; its library is imported when it builds or opens."""
    from farm.catalog import RUNTIMES

    return RUNTIMES[name]
