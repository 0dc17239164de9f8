"""One measurement at a time on each machine, and nothing else of any sweep beside it."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

VARIABLE = "FARM_LOCKS"
"""Names another folder for the locks, for programs that share a machine on purpose."""

_FOLDER = "/tmp"
"""The same for all sweeps of a machine, whatever their store and TMPDIR. The kernel ends a lock
with its process; this folder is on a local disk, where locks work."""


@contextmanager
def share_host(alone: bool) -> Iterator[None]:
    """Wait until this machine is free of measurements, or for `alone` of all steps, and hold that.

    Who wants to be alone keeps the door meanwhile, so that it waits for those that are inside only.
    """
    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with _locked("farm-door", how) as door, _locked("farm-room", how):
        if not alone and door is not None:
            fcntl.flock(door, fcntl.LOCK_UN)
        yield


@contextmanager
def _locked(name: str, how: int) -> Iterator[int | None]:
    """Hold the lock of that name; nothing where the folder cannot be written or locked."""
    try:
        descriptor = _opened(Path(os.environ.get(VARIABLE) or _FOLDER, f"{name}.lock"))
    except OSError as error:
        log.debug("steps of other sweeps are not kept apart: %s", error)
        yield None
        return
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Open the file, which may be another user's: locking needs no right to write."""
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY)
    return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
