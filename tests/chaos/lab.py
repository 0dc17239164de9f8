"""What scenarios share: the cluster, an undisturbed run, MLflow's server, a folder."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chaos.checks import SharedMemory
from chaos.cluster import Cluster
from chaos.faulty import TRIGGERS
from chaos.places import FolderPlace, ObjectPlace, Place
from chaos.service import Service
from chaos.steps import stages_in
from chaos.sweeps import PROJECT, Rows, begin, install, rows, write_matrices
from chaos.tracker import Tracker


@dataclass(frozen=True)
class Reference:
    """The undisturbed run: its rows, exit code and seconds, and the stages of its steps by key."""

    rows: Rows
    code: int
    seconds: float
    store: Path
    stages: Mapping[str, str]


class Lab:
    """The cluster with all that runs on it. say: shows a line. verbose: also what happens when.

    `start` makes the reference.
    """

    reference: Reference

    def __init__(self, folder: Path, say: Callable[[str], None], verbose: bool = False) -> None:
        self._say, self._verbose, self._began = say, verbose, time.monotonic()
        self._tracker: Tracker | None = None
        self.folder, self.shared_memory = folder, SharedMemory()
        self.service = Service()
        install(folder / "site")
        (folder / "triggers").mkdir()
        variables = {TRIGGERS: str(folder / "triggers"), **self.service.variables}
        self.cluster = Cluster(folder, [PROJECT, folder / "site"], variables)

    def start(self) -> None:
        """Start the cluster, and run the sweep undisturbed.

        Raises:
            RuntimeError: a node does not come up, or the sweep does not end as it should.
        """
        self.cluster.start()
        self.reference = self._undisturbed()

    def note(self, text: str) -> None:
        """Show what happens, where that is wanted."""
        if text and self._verbose:
            self._say(f"  {time.monotonic() - self._began:6.1f} s  {text}")

    def new_folder(self, name: str) -> Path:
        """Make a folder with the matrices."""
        folder = self.folder / name
        write_matrices(folder)
        return folder

    def tracker(self) -> Tracker:
        """Return MLflow's server, which is started when it is wanted first."""
        if self._tracker is None:
            folder = self.folder / "mlflow"
            folder.mkdir()
            self._tracker = Tracker(folder, self.cluster.variables)
        self._tracker.well()
        return self._tracker

    def place(self, folder: Path, remote: bool) -> Place:
        """Return a new place of results. folder: of the matrices. remote: in an object store."""
        return ObjectPlace(self.service, self.cluster) if remote else FolderPlace(folder / "r")

    def close(self) -> list[str]:
        """End everything. Returns what has stayed all the same."""
        self.service.close()
        if self._tracker:
            self._tracker.close()
        self.cluster.stop()
        left = [str(one) for one in self.cluster.processes.find()]
        self.cluster.processes.kill_all()
        return left + self.shared_memory.left()

    def _undisturbed(self) -> Reference:
        folder = self.new_folder("undisturbed")
        results, began = folder / "r", time.monotonic()
        variables = self.cluster.variables
        driver = begin(folder, str(results), self.cluster.address, variables, "--no-mlflow")
        code = driver.process.wait()
        seconds, found = time.monotonic() - began, rows(results)
        if not found or code not in (0, 1):
            raise RuntimeError(f"the undisturbed run ended with {code}: {driver.text[-4000:]}")
        self._say(f"undisturbed: {seconds:.1f} s, {len(found)} cells, exit code {code}")
        return Reference(found, code, seconds, results / "store", stages_in(results / "store"))


@contextmanager
def opened(
    say: Callable[[str], None], keep: Callable[[], bool], verbose: bool = False
) -> Iterator[Lab]:
    """Make a lab in a new folder under /tmp, which is removed unless it is to be kept.

    SIGINT and SIGTERM end it in order; a second one does not keep it from that.
    """
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # sockets have short names
    # Python ignores SIGINT where its starter does, as a shell does for background jobs.
    before = {one: signal.signal(one, _interrupted) for one in (signal.SIGINT, signal.SIGTERM)}
    lab = Lab(folder, say, verbose)
    try:
        lab.start()
        yield lab
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        for text in lab.close():
            say(f"left: {text}")
        for number, handler in before.items():
            signal.signal(number, handler)
        if not keep():
            with suppress(OSError):
                shutil.rmtree(folder)
        else:
            print(f"kept: {folder}", file=sys.stderr)


def _interrupted(number: int, _: object) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)
