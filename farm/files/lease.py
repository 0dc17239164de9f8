"""Claim a piece of work among processes and hosts that share a folder, by a file with a heartbeat.

No `flock`, which some network file systems refuse, and no process ids, which say nothing of another
host. Who creates the file holds the lease, and touches it. A lease that was not touched for as long
as it says is that of a dead process. Its age is the difference of two times of files on the same
file system, so that the clocks of hosts need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_BEATS = 5
"""Touches of the file within the time after which it expires."""

_SHORTEST_S, _LONGEST_S = 0.02, 1.0
"""Between two looks at a lease that another holds, in seconds."""

_TOKEN = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, and when the file was touched last, in ns of the file system's clock."""

    host: str
    pid: int
    token: str
    touched_ns: int


def holder(path: Path) -> Holder | None:
    """Return who holds the lease of this file; None if nobody does.

    A file without its content, as of a process that died right then, has a holder without a name.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # asks the server anew on NFS
    except FileNotFoundError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        status, content = os.fstat(descriptor), file.read(4096)
    try:
        found = json.loads(content)
        host, pid, token = str(found["host"]), int(found["pid"]), str(found["token"])
    except (ValueError, KeyError, TypeError, RecursionError):
        host, pid, token = "", 0, ""
    if not _TOKEN.fullmatch(token):  # it becomes part of a file's name
        token = f"{status.st_ino:x}-{status.st_ctime_ns:x}"
    return Holder(host, pid, token, status.st_mtime_ns)


class Lease:
    """A lease that this process holds between `acquire` and `release`, or for a `with` block.

    path: the lease's file; its folder is made where it is missing. expires_s: after how many
    seconds without a touch others may take the lease over, the same for all who use the file.

    A process that was suspended for longer, or did not let other threads run, has lost its lease:
    look at `lost` before the work is published.
    """

    def __init__(self, path: Path, expires_s: float = 60.0) -> None:
        if not 0 < expires_s < float("inf"):
            raise ValueError(f"a lease expires after a positive number of seconds: {expires_s}")
        self.path, self.expires_s = path, expires_s
        self._token = secrets.token_hex(8)
        self._owner: int | None = None  # the id of this process, while it holds the lease
        self._lost = False
        self._touched = 0.0
        self._other: tuple[str, int, float] | None = None

    def __enter__(self) -> Lease:
        """Wait for the lease for as long as it takes."""
        self.acquire(float("inf"))
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Take the lease, and return whether this process holds it now.

        wait_s: how many seconds to wait for a lease that another holds.

        Raises:
            OSError: the file cannot be created, or that of another cannot be read.
        """
        until, pause = time.monotonic() + wait_s, _SHORTEST_S
        if not self.path.parent.is_dir():
            self.path.parent.mkdir(parents=True, exist_ok=True)
        while not self._taken():
            if (left := until - time.monotonic()) <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_S)
        self._owner, self._lost = os.getpid(), False
        _HEART.add(self)
        return True

    def release(self) -> None:
        """Give the lease back. What another took over stays; what cannot be removed expires."""
        held = self._owner == os.getpid()  # in a forked child it is the parent's
        self._owner = None
        _HEART.remove(self)
        with contextlib.suppress(OSError):
            if held and not self._lost and (self._is_recent() or self._renewed()):
                self.path.unlink(missing_ok=True)

    @property
    def lost(self) -> bool:
        """Whether another has taken the lease over, or could; the file is asked, and touched."""
        if self._owner is not None and not self._lost:
            try:
                self._lost = not self._renewed()
            except OSError:
                self._lost = time.monotonic() - self._touched > self.expires_s
        return self._lost

    def beat(self) -> float:
        """Touch the file if it is due; return the seconds until the next time."""
        if (due := self._touched + self.expires_s / _BEATS - time.monotonic()) > 0:
            return due
        with contextlib.suppress(OSError):  # tried again; `lost` says when that is too late
            self._lost = self._lost or not self._renewed()
        return self.expires_s / _BEATS

    def _is_recent(self) -> bool:
        """Whether it was touched so lately that nobody can have taken it over."""
        return time.monotonic() - self._touched < self.expires_s / 2

    def _renewed(self) -> bool:
        """Touch the file if it is this lease's, and return whether it was."""
        now, found = time.monotonic(), holder(self.path)
        if found is None or found.token != self._token:
            return False
        try:
            os.utime(self.path)
        except FileNotFoundError:
            return False
        self._touched = now
        return True

    def _taken(self) -> bool:
        """Try to take the lease once."""
        if self._created():
            return True
        other = holder(self.path)
        return other is not None and self._is_expired(other) and self._taken_over(other)

    def _created(self) -> bool:
        self._touched = time.monotonic()
        own = {"host": socket.gethostname(), "pid": os.getpid(), "token": self._token}
        try:
            with open(self.path, "xb", buffering=0) as file:  # created by this process, or not
                file.write(json.dumps(own).encode())
        except FileExistsError:
            return False
        return self._is_recent() or self._renewed()

    def _is_expired(self, other: Holder) -> bool:
        """Whether the other's file has not been touched for the time of the lease."""
        now = time.monotonic()
        if self._other is None or self._other[:2] != (other.token, other.touched_ns):
            age = (self._file_time_ns() - other.touched_ns) / 1e9
            self._other = (other.token, other.touched_ns, now - max(age, 0.0))
        return now - self._other[2] > self.expires_s

    def _file_time_ns(self) -> int:
        """The time that the file system gives to a file that is written now."""
        probe = self.path.with_name(f".{self.path.name}.{self._token}.now")
        try:
            probe.touch()
            return probe.stat().st_mtime_ns
        finally:
            probe.unlink(missing_ok=True)

    def _taken_over(self, other: Holder) -> bool:
        """Replace the file of a dead holder, and return whether this process has done it.

        Of all who try, the one with the lease on the dead holder's token may rename that lease's
        file over the dead one's. It may die or be suspended, too: then that lease expires in turn,
        and whose token the file has in the end is the holder.
        """
        claim = Lease(self.path.with_name(f".{self.path.name}.{other.token}"), self.expires_s)
        claim._token = self._token
        if not claim._taken():
            return False
        if holder(self.path) == other:
            # The claim was taken over, perhaps, while this process was suspended.
            with contextlib.suppress(FileNotFoundError):
                claim.path.rename(self.path)
        elif claim._renewed():
            claim.path.unlink(missing_ok=True)
        return self._renewed()


class _Heart:
    """The one thread of this process that touches the files of its leases."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin without leases and thread, as a forked child does: it has none of its parent's."""
        self._lock, self._earlier = threading.Lock(), threading.Event()
        self._leases = set[Lease]()
        self._thread: threading.Thread | None = None
        self._wakes = 0.0

    def add(self, lease: Lease) -> None:
        with self._lock:
            self._leases.add(lease)
            if time.monotonic() + lease.expires_s / _BEATS < self._wakes:
                self._earlier.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leases", daemon=True)
                self._thread.start()

    def remove(self, lease: Lease) -> None:
        with self._lock:
            self._leases.discard(lease)

    def _run(self) -> None:
        while True:
            self._earlier.clear()
            with self._lock:
                self._wakes, leases = float("inf"), list(self._leases)
            pause = min((lease.beat() for lease in leases), default=None)
            with self._lock:
                self._wakes = float("inf") if pause is None else time.monotonic() + pause
            self._earlier.wait(pause)


_HEART = _Heart()
os.register_at_fork(after_in_child=_HEART.begin)
