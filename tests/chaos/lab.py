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
    """The cluster with all that runs on it. say: shows a line. verbose: also what happens when."""

    def __init__(self, folder: Path, say: Callable[[str], None], verbose: bool = False) -> None:
        self._say, self._verbose, self._began = say, verbose, time.monotonic()
        self._tracker: Tracker | None = None
        self.folder, self.shared_memory = folder, SharedMemory()
        install(folder / "site")
        (folder / "triggers").mkdir()
        self.cluster = Cluster(
            folder, [PROJECT, folder / "site"], {TRIGGERS: str(folder / "triggers")}
        )
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

    def close(self) -> list[str]:
        """End everything. Returns what has stayed all the same."""
        if self._tracker:
            self._tracker.close()
        self.cluster.stop()
        left = [str(one) for one in self.cluster.processes.find()]
        self.cluster.processes.kill_all()
        return left + self.shared_memory.left()

    def _undisturbed(self) -> Reference:
        folder = self.new_folder("undisturbed")
        results, began = folder / "r", time.monotonic()
        driver = begin(folder, results, self.cluster.address, self.cluster.variables, "--no-mlflow")
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
    """Make a lab in a new folder under /tmp, which is removed unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))  # sockets have short names
    lab, before = None, signal.getsignal(signal.SIGINT)
    # Python ignores SIGINT where its starter does, as a shell does for background jobs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        lab = Lab(folder, say, verbose)
        yield lab
    finally:
        if lab:
            for text in lab.close():
                say(f"left: {text}")
        signal.signal(signal.SIGINT, before)
        if not keep():
            with suppress(OSError):
                shutil.rmtree(folder)
        else:
            print(f"kept: {folder}", file=sys.stderr)
