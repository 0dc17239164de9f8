"""The table of faults. To add one: a function that acts on a scene, and a line in its module."""

from __future__ import annotations

from chaos.faults import artifacts, code, nodes, processes, signals, stores, sweeps, trackers
from chaos.faults.fault import Fault

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for module in (processes, nodes, signals, code, stores, artifacts, trackers, sweeps)
    for fault in module.FAULTS
}
"""By name."""

KINDS = tuple(dict.fromkeys(fault.kind for fault in FAULTS.values()))
"""The kinds, each as likely as the others."""
