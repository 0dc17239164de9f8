"""Which claims in an object store are those of living processes, for who only reads there.

A claim's session is put every few seconds while its process lives. How old it is at the first look
is known by the clock of this machine; where that says that it is dead, its next put is waited for,
since the clock may be wrong. From then on this process's own time between puts tells.
"""

from __future__ import annotations

import logging
import time

from farm.store.objects import Objects, at_once
from farm.store.remote import claims
from farm.store.remote.claims import BEATS, ROUNDED_S, SESSIONS, token_of

log = logging.getLogger(__name__)

_LATE_S = 3.0
"""A session may be put so much later than it should be."""

_PAUSE_S = 1.0


class Onlooker:
    """Looks at the claims in a folder of the objects, again and again, without one of its own."""

    def __init__(self, objects: Objects, folder: str) -> None:
        self._objects, self._folder = objects, folder
        self._signs = dict[str, tuple[float, float]]()
        """Of each session: when it was put last, by the service's clock and by `monotonic`."""

    def living(self) -> list[str]:
        """Return the names of the claims of living processes, in alphabetical order.

        Raises:
            OSError: the service fails.
        """
        known = set(self._signs)
        found = self._look()
        wait_s = claims.EXPIRES_S / BEATS + _LATE_S
        until = time.monotonic() + wait_s
        if doubtful := [name for name, one in found.items() if not self._are_alive({one} - known)]:
            names = ", ".join(sorted(doubtful))
            log.info(f"waiting at most {wait_s:.0f} s for a sign of life of {names}")
        while time.monotonic() < until and not self._are_alive(set(found.values()) - known):
            time.sleep(_PAUSE_S)
            found = self._look()
        return sorted(name for name, session in found.items() if self._are_alive({session}))

    def _look(self) -> dict[str, str]:
        """Return the session of each claim that has one, and note when it was put."""
        listed = {
            one.name.removeprefix(f"{self._folder}/"): one.modified
            for one in self._objects.listed(self._folder)
        }
        names = [name for name in listed if not name.startswith(SESSIONS)]
        sessions = dict(zip(names, at_once(self._session, names), strict=True))
        found = {name: one for name, one in sessions.items() if one in listed}
        for session in found.values():
            self._note(session, listed[session])
        return found

    def _session(self, name: str) -> str:
        try:
            return f"{SESSIONS}{token_of(self._objects.get(f'{self._folder}/{name}'))}"
        except (FileNotFoundError, ValueError):  # it was given back right now; it is none
            return ""

    def _note(self, session: str, modified: float) -> None:
        if session not in self._signs:
            age = max(0.0, time.time() - modified)
            self._signs[session] = modified, time.monotonic() - age
        elif self._signs[session][0] != modified:
            self._signs[session] = modified, time.monotonic()

    def _are_alive(self, sessions: set[str]) -> bool:
        oldest = time.monotonic() - claims.EXPIRES_S - ROUNDED_S
        return all(self._signs[one][1] >= oldest for one in sessions)
