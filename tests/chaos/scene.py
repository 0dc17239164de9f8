"""What a fault may act on: the cluster, the drivers, the store, and what is to be undone later."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from chaos.cluster import Cluster
from chaos.places import NoFolder, Place
from chaos.processes import Kind, Process
from chaos.service import Service
from chaos.steps import StepLog
from chaos.sweeps import NAME, Driver, begin
from chaos.tracker import Tracker


class NoTarget(Exception):
    """There is nothing for the fault to act on at this moment."""


@dataclass
class Scene:
    """One place of results, the drivers that write to it, and the cluster that they use.

    folder: that of the matrices. local: the drivers start a Ray of their own in place of using the
    cluster. small: the store is on a file system of its own. service: in which the results lie, if
    it is no folder. altered: the steps whose artifacts a fault has changed. undo: is closed when
    the disturbed run has ended.
    """

    rng: random.Random
    cluster: Cluster
    folder: Path
    place: Place
    local: bool = False
    small: bool = False
    tracker: Tracker | None = None
    service: Service | None = None
    steps: StepLog | None = None
    drivers: list[Driver] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    undo: ExitStack = field(default_factory=ExitStack)
    _later: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    @property
    def store(self) -> Path:
        """The folder of the store.

        Raises:
            NoTarget: it lies in no folder.
        """
        try:
            return self.place.folder / "store"
        except NoFolder:
            raise NoTarget("the store lies in no folder") from None

    @property
    def driver(self) -> Driver:
        """The driver that runs the sweep.

        Raises:
            NoTarget: it has ended.
        """
        for driver in self.drivers:
            if driver.sweep == NAME and driver.running:
                return driver
        raise NoTarget("no driver")

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables of a driver."""
        # SIGABRT then shows where a driver is that does not end.
        more = {"PYTHONFAULTHANDLER": "1"}
        if self.service:
            more |= self.service.variables
        if self.tracker:
            more["MLFLOW_TRACKING_URI"] = self.tracker.address
        return {**self.cluster.variables, **more}

    def begin(self, *words: str, sweep: str = NAME) -> Driver:
        """Begin to run a sweep."""
        if self.tracker is None:
            words = (*words, "--no-mlflow")
        address = None if self.local else self.cluster.address
        place = self.place.address
        driver = begin(self.folder, place, address, self.variables, *words, sweep=sweep)
        self.drivers.append(driver)
        return driver

    def process(self, *kinds: Kind, nodes: tuple[int, ...] = ()) -> Process:
        """Draw a process of these kinds, on one of these nodes (none: on any).

        Raises:
            NoTarget: there is none.
        """
        found = self.cluster.processes.find(None, *kinds)
        found = [one for one in found if not nodes or one.node in nodes]
        if not found:
            raise NoTarget(f"no {' or '.join(kind.value for kind in kinds)}")
        return self.rng.choice(sorted(found, key=lambda one: one.pid))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something in so many seconds, or when the run ends."""
        self._later.append((time.monotonic() + seconds, do))
        self.undo.callback(self._do, do)

    def do_due(self) -> None:
        """Do what is due by now."""
        for when, do in list(self._later):
            if when <= time.monotonic():
                self._do(do)

    def _do(self, do: Callable[[], None]) -> None:
        """Do it, unless it is done."""
        for one in [one for one in self._later if one[1] is do]:
            self._later.remove(one)
            do()
