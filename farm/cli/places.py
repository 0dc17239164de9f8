"""Where results and artifacts lie, and which sweeps run there."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.files import expanded
from farm.files.lease import Lease
from farm.store.objects import is_url

if TYPE_CHECKING:
    from farm.config.loader import Matrix

_RAY_WORKING_DIR = "runtime_resources/working_dir_files"

_TRIES, _TRY_S = 10, 0.02
"""How often a lock is tried, and the pause between: `running` holds it for an instant."""


def results_place(option: str | None, matrix: Matrix | None = None) -> str:
    """Return `--results`, else the matrix's `results`, else FARM_RESULTS, else `results` here: an
    absolute path, or an address as `s3://bucket/path`.

    A Ray job runs in a copy of the project within Ray's temporary folder, which Ray deletes; there
    the default is `~/farm-results`.

    Raises:
        InputError: it is no path, or a relative path in a Ray job.
    """
    in_job = _RAY_WORKING_DIR in str(Path.cwd())
    start = Path.cwd()
    if option is not None:
        place, source = option, "--results"
    elif matrix is not None and matrix.spec.results is not None:
        place, source = matrix.spec.results, "results"
        start = matrix.folder
    elif "FARM_RESULTS" in os.environ:
        place, source = os.environ["FARM_RESULTS"], "FARM_RESULTS"
    elif in_job:
        return str(Path.home() / "farm-results")
    else:
        return str(start / "results")
    if is_url(place):
        return place
    path = expanded(place, Path())
    if in_job and not path.is_absolute():
        raise InputError(
            f"{str(path)!r} would be in Ray's temporary folder; in a job give an absolute path on a"
            " file system that all nodes share, or s3://BUCKET/PATH",
            source,
        )
    return str((start / path).resolve())


def results_folder(option: str | None, matrix: Matrix | None = None) -> Path:
    """Return what `results_place` does, for a command that needs a folder. Raises InputError."""
    place = results_place(option, matrix)
    if is_url(place):
        raise InputError("this command keeps results in folders only; give --results DIR", place)
    return Path(place)


def store_address(place: str) -> str:
    """Return FARM_STORE, by which several results share their artifacts, else `store` in the
    results: a path, or an address.

    Raises:
        InputError: FARM_STORE is no path.
    """
    if own := os.environ.get("FARM_STORE"):
        return own if is_url(own) else str(expanded(own, Path()).resolve())
    return f"{place}/store"


def store_folder(results: Path) -> Path:
    """Return what `store_address` does, for a command that needs a folder. Raises InputError."""
    address = store_address(str(results))
    if is_url(address):
        raise InputError("this command needs a store in a folder; unset FARM_STORE", address)
    return Path(address)


@contextmanager
def locked(results: Path, sweep: str) -> Iterator[None]:
    """Allow one run of a sweep at a time: two would do the same work and disturb each other's
    measurements.

    Raises:
        InputError: the sweep is running already, or the results cannot be written.
    """
    path = results / "sweeps" / f"{sweep}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (results / "leaderboard").mkdir(exist_ok=True)  # an error now, and not after the work
        file = path.open("w")
    except OSError as error:
        raise InputError(f"cannot write here: {error.strerror}", str(results)) from None
    running = InputError(f"sweep {sweep} is already running there", str(results))
    with file, ExitStack() as stack:
        try:
            _lock(file.fileno())
        except BlockingIOError:
            raise running from None
        except OSError:  # a file system without locks (ENOSYS, ENOLCK)
            lease = Lease(path.with_suffix(".lease"))
            if not lease.acquire():
                raise running from None
            stack.callback(lease.release)
        yield


def _lock(descriptor: int) -> None:
    """Lock a file. Raises BlockingIOError where another sweep has it, and not only a `running`."""
    for _ in range(_TRIES - 1):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_TRY_S)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def running(results: Path) -> list[str]:
    """Return the names of the sweeps that run there, in alphabetical order."""
    return sorted(one.stem for one in (results / "sweeps").glob("*.lock") if _is_locked(one))


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # given back at once
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return path.with_suffix(".lease").exists()
    return path.with_suffix(".lease").exists()
