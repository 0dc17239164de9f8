"""The table of faults. To add one: a function that acts on a scene, and a line in its module."""

from __future__ import annotations

from chaos.faults import (
    artifacts,
    code,
    nodes,
    processes,
    services,
    signals,
    stores,
    sweeps,
    trackers,
)
from chaos.faults.fault import Fault

_MODULES = (processes, nodes, signals, code, stores, artifacts, trackers, sweeps, services)

FAULTS: dict[str, Fault] = {fault.name: fault for module in _MODULES for fault in module.FAULTS}
"""By name."""

KINDS = tuple(dict.fromkeys(fault.kind for fault in FAULTS.values()))
"""The kinds, each as likely as the others."""

OF_FOLDERS, OF_SERVICES = frozenset({"store", "artifact"}), frozenset({"service"})
"""The kinds that need the results in a folder, and in an object store."""
