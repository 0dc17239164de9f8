"""The artifacts of a store in an object store that one node has on its disk, up to a size.

The processes of a node share the folder. A lock of each artifact, which the kernel gives back with
its process, says who uses it and who downloads it; the folder is on a local disk, where locks work.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from farm.errors import InputError
from farm.parsing import parse_bytes

VARIABLE = "FARM_CACHE_SIZE"
DEFAULT = "50GiB"

_LEFT_S = 60.0
"""What was used within this time stays: a process may read it without holding it."""

_SHARE = 20
"""The folder is measured again when a twentieth of its size was added; each process of the node
counts what it adds itself."""


def most_bytes() -> int:
    """Return how large the folder may be, by FARM_CACHE_SIZE.

    Raises:
        InputError: that is no size.
    """
    try:
        return parse_bytes(os.environ.get(VARIABLE) or DEFAULT)
    except ValueError as error:
        raise InputError(str(error), VARIABLE) from None


@dataclass(frozen=True)
class _Kept:
    """An artifact on the disk. used: when it was last, in seconds since 1970."""

    folder: Path
    size: int
    used: float


class NodeFolder:
    """A folder laid out as a store, of which anything that nobody uses may be removed."""

    def __init__(self, root: Path, most: int) -> None:
        self.root, self._most = root, most
        self._added = most  # the first artifact has the folder measured

    @contextmanager
    def held(self, keys: Iterable[str]) -> Iterator[None]:
        """Keep the artifacts and working folders of these keys for the block."""
        with ExitStack() as stack:
            for key in sorted(set(keys)):
                stack.enter_context(self._locked(key, fcntl.LOCK_SH))
            yield

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Wait until no other process uses this key, and hold it for the block."""
        with self._locked(key, fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, key: str, how: int) -> Iterator[None]:
        descriptor = self._opened(key, how)
        try:
            os.utime(descriptor)
            yield
        finally:
            os.close(descriptor)

    def _opened(self, key: str, how: int) -> int:
        path = self._lock(key)
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                continue
            try:
                fcntl.flock(descriptor, how)
                if os.fstat(descriptor).st_nlink:  # else it was removed meanwhile
                    return descriptor
            except BaseException:  # also an interruption: nobody else would close it
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _lock(self, key: str) -> Path:
        return self.root / "locks" / key

    def added(self, size: int) -> None:
        """Note that an artifact of this size was added."""
        self._added += size

    def make_room(self) -> None:
        """Trim the folder where that is due."""
        if self._added * _SHARE * (os.cpu_count() or 1) >= self._most:
            self._added = 0
            self.trim()

    def trim(self) -> None:
        """Remove the artifacts that were not used for the longest time, until the rest fits."""
        self.remove_abandoned()
        kept = sorted(self._artifacts(), key=lambda one: one.used)
        total = sum(one.size for one in kept)
        for one in kept:
            if total <= self._most or one.used > time.time() - _LEFT_S:
                break
            with self._unused(one.folder.name) as unused:
                if unused:
                    self.remove(one.folder)
                    self._lock(one.folder.name).unlink()
                    total -= one.size

    def remove_abandoned(self) -> int:
        """Remove the working folders of processes that are dead; return how many."""
        count = 0
        for folder in self.root.glob("tmp/*"):
            with self._unused(folder.name.partition(".")[0]) as unused:
                if unused:
                    shutil.rmtree(folder, ignore_errors=True)
                    count += 1
        return count

    def remove(self, folder: Path) -> None:
        """Remove an artifact, at once for whoever looks."""
        gone = self.root / "tmp" / f"gone.{folder.name}.{os.getpid()}.{time.monotonic_ns()}"
        gone.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process was faster
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def _unused(self, key: str) -> Iterator[bool]:
        """Hold a key if nobody else does, and say whether that is so."""
        try:
            descriptor = self._opened(key, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    def _artifacts(self) -> Iterator[_Kept]:
        for folder in self.root.glob("*/??/*"):
            with suppress(OSError):  # another process removes it
                size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
                lock = self._lock(folder.name)
                used = (lock if lock.exists() else folder).stat().st_mtime
                yield _Kept(folder, size, used)
