"""Claims of work among processes and hosts that share an object store, by conditional puts.

    <claims>/<name>               the token of the session that has claimed it
    <claims>/sessions/<token>     put again and again while its process lives

Whoever creates a claim holds it. A session that was not put for a while is that of a dead process,
and its claims are taken over by a put on the condition that they are still that session's. So a
process makes one request every few seconds, however many claims it holds. The age of a session is
known by the service's clock alone, which the process's own session gives it. What dead processes
leave blocks nobody; `leftovers` removes it. The sessions of runs also say whether they claim each
step; see `runs`.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from farm.store.objects import Objects

log = logging.getLogger(__name__)

EXPIRES_S = 60.0
"""After how many seconds without a sign of life the claims of a session are free."""

BEATS = 5
"""Puts of a session within that time."""

ROUNDED_S = 2.0
"""By how much the age of an object may be too high: services round times to whole seconds."""

SESSIONS = "sessions/"
"""What the names of sessions begin with, in the folder of the claims."""

_ASKED_S = 5.0
"""For so long a claim is believed to be another's before it is asked for again."""

_WITHOUT = """\
%s keeps no conditions on puts (If-None-Match), so sweeps cannot claim steps there: run one sweep at
a time. Sweeps at the same time would do the same steps; their results would still be right."""

_TOKEN_BYTES = 8


class ObjectClaims:
    """The claims of this process in one place. folder: of the names of claims, among the objects.

    Not for a forked child: it has neither the thread nor the claims of its parent.
    """

    _steps = "none"
    """Which steps the process runs, as its session says; see `runs`."""

    def __init__(
        self, objects: Objects, folder: str = "claims", expires_s: float | None = None
    ) -> None:
        self.objects, self.folder = objects, folder
        self._expires_s = EXPIRES_S if expires_s is None else expires_s
        self._token = secrets.token_hex(_TOKEN_BYTES)
        self._held = set[str]()
        self._released = deque[str]()  # to which another thread may look at any time
        self._releasing = threading.Lock()
        self._others: dict[str, float] = {}
        self._dead = set[str]()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._conditions = True
        self._putting = threading.Lock()
        self._put_at = self._ahead_s = 0.0

    def claim(self, name: str) -> bool:
        """Claim a name, and return whether this process has it now.

        Raises:
            OSError: the service fails.
        """
        if name in self._held:
            return True
        if time.monotonic() < self._others.get(name, 0.0):
            return False
        self._begin()
        if not self._conditions:
            return True
        with self._releasing, suppress(ValueError):  # it may be deleted right now
            self._released.remove(name)
        place, own = f"{self.folder}/{name}", self._own()
        if not (self.objects.put_if_absent(place, own) or self._taken_over(place, own)):
            self._others[name] = time.monotonic() + _ASKED_S
            return False
        self._held.add(name)
        self._others.pop(name, None)
        return True

    def outlast(self, name: str) -> bool:
        """Claim a name, and return whether this process has it now. Where another has, wait until
        that gives a sign of life, or has given none for so long that it is dead.

        Raises:
            OSError: the service fails.
        """
        seen, said = set[float](), False
        while not self.claim(name):
            if sign := self._last_sign(name):
                seen.add(sign)
            if len(seen) > 1:
                return False
            if not said:
                log.info("%s runs elsewhere or was killed; waiting for a sign of life", name)
            said = True
            time.sleep(self._expires_s / BEATS / 4)
            self._others.pop(name, None)
        return True

    def _last_sign(self, name: str) -> float | None:
        """When the session that has a claim was put last; None where either is gone."""
        try:
            token = token_of(self.objects.get(f"{self.folder}/{name}"))
            return self.objects.entry(self._session(token)).modified
        except FileNotFoundError:
            return None

    def release(self, name: str) -> None:
        """Give a claim back, within a second."""
        if name in self._held:
            self._held.discard(name)
            self._released.append(name)

    def release_all(self) -> None:
        """Give all claims back, and end the session."""
        self._released.extend(self._held)
        self._held.clear()
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            with suppress(OSError):  # they then end with the session
                self._delete_released()
                self.objects.delete([self._session(self._token)])

    def _delete_released(self) -> None:
        """Delete the claims that were given back; what others may have taken over stays."""
        with self._releasing:
            names = [self._released.popleft() for _ in range(len(self._released))]
            if names and time.monotonic() - self._put_at < self._expires_s / 2:
                self.objects.delete([f"{self.folder}/{name}" for name in names])

    def now(self) -> float:
        """Return the time by the service's clock, in seconds since 1970. Raises OSError."""
        self._begin()
        return time.monotonic() + self._ahead_s

    def is_held_elsewhere(self, name: str) -> bool:
        """Return whether a living process has claimed the name. Raises OSError."""
        self._begin()
        try:
            content = self.objects.get(f"{self.folder}/{name}")
        except FileNotFoundError:
            return False
        return self._is_alive(token_of(content))

    def _taken_over(self, place: str, own: bytes) -> str | None:
        """Take the claim of a dead session over; None if it is alive, or another was faster."""
        try:
            entry = self.objects.entry(place)
            token = token_of(self.objects.get(place))
        except FileNotFoundError:  # it was released right now
            return self.objects.put_if_absent(place, own)
        if self._is_alive(token):
            return None
        return self.objects.replace(place, own, entry.tag)

    def _is_alive(self, token: str) -> bool:
        if token == self._token:
            return True
        if not token or token in self._dead:  # none, and a folder may answer to that name
            return False
        try:
            modified = self.objects.entry(self._session(token)).modified
        except FileNotFoundError:
            self._dead.add(token)
            return False
        return self.now() - modified <= self._expires_s + ROUNDED_S

    def _own(self) -> bytes:
        own: dict[str, Any] = {"session": self._token, "host": socket.gethostname()}
        return json.dumps({**own, "pid": os.getpid(), "steps": self._steps}).encode()

    def _session(self, token: str) -> str:
        return f"{self.folder}/{SESSIONS}{token}"

    def _begin(self) -> None:
        """Begin the session with the first claim."""
        if self._thread is not None or not self._conditions:
            return
        name = self._session(self._token)
        self._conditions = self.objects.has_conditions(name)
        if not self._conditions:
            log.warning(_WITHOUT, self.objects.url)
            return
        self._put_session()
        self._ahead_s = self.objects.entry(name).modified - self._put_at
        self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
        self._thread.start()

    def _put_session(self) -> None:
        with self._putting:
            began = time.monotonic()
            self.objects.put(self._session(self._token), self._own())
            self._put_at = began

    def _beat(self) -> None:
        pause = self._expires_s / BEATS
        while not self._ended.wait(min(1.0, pause)):
            with suppress(OSError):  # tried again
                if time.monotonic() - self._put_at >= pause:
                    self._put_session()
                self._delete_released()
                self._look_around()

    def _look_around(self) -> None:
        """Do what is due about every second beside that. Raises OSError."""


@contextmanager
def session(objects: Objects, folder: str = "claims") -> Iterator[ObjectClaims]:
    """Yield claims that are given back at the end of the block."""
    claims = ObjectClaims(objects, folder)
    try:
        yield claims
    finally:
        claims.release_all()


def token_of(content: bytes) -> str:
    """Return the session of a claim; empty, which no session is, where it is damaged."""
    try:
        token = json.loads(content)["session"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return token if isinstance(token, str) and token.isalnum() else ""
