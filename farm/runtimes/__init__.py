"""Runtimes: what runs a model. One file or folder each, and one line in `farm.catalog`.

`farm.runtimes.base` says what a runtime's descriptor has; `null` is the shortest example.
`farm.catalog.RUNTIMES[name]` is a runtime; its library is imported when it builds or opens.
"""

from __future__ import annotations

from farm.runtimes.base import Concurrent, DeviceTimed, Graphed, Runtime, Session

__all__ = ["Concurrent", "DeviceTimed", "Graphed", "Runtime", "Session", "engine_runtimes"]


def engine_runtimes(on_cpu: bool = False) -> tuple[str, ...]:
    """Return the names of the runtimes whose engines find objects, in the catalog's order.

    `torch` has no engines, and those of `null`, which needs no package, find nothing.
    on_cpu: only the runtimes that run on a CPU.

    Raises:
        InputError: another package's entry point for a runtime is broken.
    """
    from farm.catalog import RUNTIMES

    return tuple(
        name
        for name, one in RUNTIMES.items()
        if one.exported and one.packages and not (on_cpu and one.accelerators)
    )
