"""Temporary folders of processes, which are found and removed when all of these were killed.

Each has a lock that its owner holds; the kernel gives it back with the process, whatever ended it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from farm.engine.workers import processes

_LOCK = "lock"
_WORKER, _RAY, _RESULTS = "worker", "ray", "results"

TOKEN, TOKEN_VARIABLE = "token", "RAY_AUTH_TOKEN_PATH"
"""A file in the folder of a Ray, and the variable by which its processes know it and are found: its
agents may outlive a driver that was killed by a minute."""


class TemporaryFolder:
    """A folder for this user alone, which lasts as long as this process, or until `remove`.

    Args:
        of: What it is for, `worker`, `ray` or `results`; part of its name.
        parent: Where it is made; by default where temporary files are.
    """

    def __init__(self, of: str = _WORKER, parent: Path | None = None) -> None:
        remove_abandoned(parent)
        made = Path(tempfile.mkdtemp(prefix="farm-new-", dir=parent))
        self._lock = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        with suppress(OSError):  # no locks on this file system: nobody then removes it either
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.path = made.rename(made.with_name(made.name.replace("-new-", f"-{of}-")))

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        for _ in range(20):  # processes that have just been ended may still write into it
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                break
            time.sleep(0.05)
        os.close(self._lock)


def remove_abandoned(parent: Path | None = None) -> None:
    """Remove the folders whose owners were killed, and end what is left of their Rays."""
    place = parent or Path(tempfile.gettempdir())
    kinds = (f"farm-{kind}-*" for kind in (_WORKER, _RAY, _RESULTS))
    for folder in [one for kind in kinds for one in place.glob(kind)]:
        with suppress(OSError):  # its owner lives, or is another user
            lock = os.open(folder / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if folder.match(f"farm-{_RAY}-*"):
                    processes.kill(processes.with_variable(TOKEN_VARIABLE, str(folder / TOKEN)))
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
