"""What must hold after a disturbed sweep has been run to its end; a check returns what does not."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from chaos.cluster import WORKERS, Cluster
from chaos.faults.fault import Fault
from chaos.places import Place
from chaos.processes import RAYS, wait_until
from chaos.steps import Execution
from chaos.sweeps import Rows
from farm.specs import Ref
from farm.store import Store

_SLACK_S = 0.5
"""How much later the harness may see what has happened."""

_END_S = 30.0
"""How long processes may take to end after the driver."""


@dataclass
class Injected:
    """A fault that was done: when, by `time.monotonic`, until when it lasted, and what was done."""

    fault: Fault
    began: float
    ended: float
    what: str


def complains_of_mlflow(text: str) -> bool:
    """Return whether a run has said that MLflow lacks something. The link to it is no complaint."""
    return re.search(r"\bMLflow (is not|at \S+ could|could|has)\b", text) is not None


def found_no_cluster(text: str) -> bool:
    """Return whether a run has ended since the cluster was gone before it had joined."""
    return ": no Ray cluster answers there: " in text


def different_rows(wanted: Rows, found: Rows, spared: Sequence[str] = ()) -> list[str]:
    """Compare rows but for those of the cells `spared`."""
    problems = [f"cell {cell} has no row" for cell in wanted.keys() - found.keys()]
    problems += [f"cell {cell} is not of the sweep" for cell in found.keys() - wanted.keys()]
    for cell in sorted(wanted.keys() & found.keys() - set(spared)):
        row = found[cell]
        if names := [name for name, value in wanted[cell].items() if row.get(name) != value]:
            first = ", ".join(f"{n} is {row.get(n)!r}, not {wanted[cell][n]!r}" for n in names[:3])
            problems.append(f"{cell}: {len(names)} columns differ: {first}")
    return problems


def hit_twice(wanted: Rows, executions: Mapping[str, list[Execution]]) -> list[str]:
    """Return the cells of which faults have ended one step twice or more: it may have failed."""
    hit = {key for key, runs in executions.items() if sum(not one.published for one in runs) > 1}
    return [
        cell
        for cell, row in wanted.items()
        if any(name.endswith("_key") and value in hit for name, value in row.items())
    ]


def unexplained(
    executions: Mapping[str, list[Execution]],
    injected: Sequence[Injected],
    altered: frozenset[str] | set[str],
) -> list[str]:
    """Find steps that were begun again without a fault that explains it.

    altered: the steps whose artifacts a fault has changed, and those that read them.
    """
    problems = []
    for key, runs in executions.items():
        most = 1 + sum(one.fault.repeats for one in injected)
        if len(runs) > most:
            problems.append(f"step {key[:12]} was begun {len(runs)} times, of {most} at most")
        for before, after in pairwise(runs):
            if key in altered:
                continue
            if before.published:
                problems.append(f"step {key[:12]} was begun again after it was done")
            elif not any(_explains(one, before, after) for one in injected):
                problems.append(f"step {key[:12]} was begun again, and no fault explains it")
    return problems


def _explains(one: Injected, before: Execution, after: Execution) -> bool:
    began = before.began <= one.ended + _SLACK_S
    return one.fault.repeats > 0 and began and one.began - _SLACK_S <= after.began


def altered_artifacts(store: Store, stages: Mapping[str, str]) -> list[str]:
    """Read all artifacts, and find those that are not as their steps left them."""
    problems = []
    for key, stage in stages.items():
        found = store.altered(Ref(stage, key), anew=True)
        problems += [f"{stage} {key[:12]}: {one}" for one in found]
    return problems


def left_in(place: Place, cluster: Cluster) -> list[str]:
    """Find what sweeps have left in their results, and their temporary files."""
    found: list[Path | str] = [*place.left(), *(cluster.folder / "ray").glob("session_*")]
    folders = set(cluster.temporary.glob("farm-*"))
    # Ray ends the workers of a job without letting them clear up: the next ones of a node do it.
    workers = {one for one in folders if one.name.startswith("farm-worker-")}
    found += folders - workers if len(workers) <= 2 * (1 + len(WORKERS)) else folders
    return [f"{one} has stayed" for one in found]


def left_processes(cluster: Cluster) -> list[str]:
    """Wait until only Ray's own processes run, and find the others."""
    found: list[str] = []

    def ended() -> bool:
        found_now = cluster.processes.find()
        others = [one for one in found_now if one.node is None or one.kind not in RAYS]
        found[:] = [f"{one} still runs: {one.title[:200]}" for one in others]
        return not others

    return [] if wait_until(ended, _END_S) else found


class SharedMemory:
    """The segments in /dev/shm, of which other programs make their own at the same time.

    Folders there are no segments: an MLflow server that is killed leaves one.
    """

    _FOLDER = Path("/dev/shm")

    def __init__(self) -> None:
        self._before = self._segments()

    def left(self) -> list[str]:
        """Find segments that have come since, and that no living process has mapped."""
        if not (new := self._unmapped()):
            return []
        time.sleep(2)  # another program may be about to map or to remove it
        return [f"{self._FOLDER / name} has stayed" for name in new & self._unmapped()]

    def _unmapped(self) -> set[str]:
        new = self._segments() - self._before
        for maps in Path("/proc").glob("[0-9]*/maps") if new else ():
            try:
                text = maps.read_text()
            except OSError:
                continue
            new = {name for name in new if f"{self._FOLDER / name}" not in text}
        return new

    def _segments(self) -> set[str]:
        return {entry.name for entry in os.scandir(self._FOLDER) if not entry.is_dir()}
