"""Runs of steps that share an object store: one that is alone claims no step by itself.

A run's session says which steps it has: `all` of them while no other run is there, later `each`
that it has claimed. A run that begins puts its session first, and then looks for others. Where it
finds one it claims each step, and begins when no other says `all` any more. A run that has all
looks for others once a second; where it finds one it claims what it is running, and then says
`each`, until its end. So of two runs one sees the other before either begins a step, whenever they
begin; and a run that is alone makes a request a second, however many steps it runs.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from enum import Enum
from typing import TYPE_CHECKING

from farm.store.objects import at_once
from farm.store.remote.claims import ROUNDED_S, SESSIONS, ObjectClaims

if TYPE_CHECKING:
    from farm.store.objects import Objects

log = logging.getLogger(__name__)

NONE, EACH, ALL = "none", "each", "all"
"""What a session says: its process runs no steps, claims each that it runs, or has all of them."""

_PAUSE_S = 0.25
"""How often it is looked whether another run still has all steps."""


class _State(Enum):
    """beginning: nothing is run yet. alone: it has all steps. seen: another run was seen, and what
    this one runs is not claimed yet. sharing: each step is claimed, once no other has all."""

    BEGINNING = "beginning"
    ALONE = "alone"
    SEEN = "seen"
    SHARING = "sharing"


class RunClaims(ObjectClaims):
    """The claims of one run: of each step, or after `begin` of all steps while it is alone."""

    def __init__(self, objects: Objects, expires_s: float | None = None) -> None:
        super().__init__(objects, expires_s=expires_s)
        self._state = _State.SHARING
        self._unclaimed = set[str]()  # what is held without an object, as long as it is alone
        self._changing, self._giving_way = threading.Lock(), threading.Lock()
        self._idle = set[str]()
        self._awaits = True

    @property
    def alone(self) -> bool:
        """Whether no other run does a step of the store, since `begin`."""
        return self._state is _State.ALONE

    @property
    def _steps(self) -> str:  # type: ignore[override]
        return EACH if self._state is _State.SHARING else ALL

    def begin(self) -> None:
        """Have all steps if no other run is there; else wait until each run claims its steps.

        Raises:
            OSError: the service fails; this run then claims each.
        """
        try:
            while not self._is_alone():
                self._say()
                self._await_others()
                if self._runs() or not self._conditions:
                    return
        except OSError:
            self._state = _State.SHARING
            raise

    def _is_alone(self) -> bool:
        """Whether no other run was there when this one had said that it has all steps."""
        self._state = _State.BEGINNING
        self._say()
        alone = self._conditions and not self._runs()
        self._state = _State.ALONE if alone else _State.SHARING
        return alone

    def claim(self, name: str) -> bool:
        """Claim a step, as `ObjectClaims.claim`. Raises OSError."""
        if self.alone and time.monotonic() - self._put_at > self._expires_s / 2:
            self._say()  # after a suspension: others may have taken this run for dead
            self._look_around()
        with self._changing:
            if self.alone:
                self._held.add(name)
                self._unclaimed.add(name)
                return True
        self._give_way()
        if self._awaits:
            self._await_others()
        return super().claim(name)

    def release(self, name: str) -> None:
        """Give a claim back, within a second."""
        with self._changing:
            if name in self._unclaimed:
                self._unclaimed.discard(name)
                self._held.discard(name)
        super().release(name)

    def release_all(self) -> None:
        """Give all claims back, and end the session."""
        with self._changing:
            self._held -= self._unclaimed
            self._unclaimed.clear()
        super().release_all()

    def _look_around(self) -> None:
        """See whether another run is there, and give way to it. Raises OSError."""
        if self.alone and self._runs():
            with self._changing:
                self._state = _State.SEEN
        self._give_way()

    def _give_way(self) -> None:
        """Claim what is running, and say so, if another run was seen."""
        with self._giving_way:
            if self._state is not _State.SEEN:
                return
            with self._changing:
                names = sorted(self._unclaimed)
            at_once(self._claim_running, names)
            self._state, self._awaits = _State.SHARING, True
            self._say()

    def _claim_running(self, name: str) -> None:
        is_own = self.objects.put_if_absent(f"{self.folder}/{name}", self._own()) is not None
        with self._changing:
            self._unclaimed.discard(name)
            if not is_own:  # as after a long suspension: two run it, and one record counts
                self._held.discard(name)
            elif name not in self._held:  # it has ended meanwhile
                self._released.append(name)

    def _say(self) -> None:
        """Put the session, which says which steps the run has."""
        if self._thread is None:
            self._begin()
        else:
            self._put_session()

    def _await_others(self) -> None:
        """Wait until each living run claims its steps."""
        said = False
        while ALL in self._runs().values():
            if not said:
                log.info("Another sweep runs steps of this store; waiting until it shares them.")
            said = True
            time.sleep(_PAUSE_S)
        self._awaits = False

    def _runs(self) -> dict[str, str]:
        """What the sessions of other living runs say, by their tokens. Raises OSError."""
        self._begin()
        if not self._conditions:
            return {}
        oldest = self.now() - self._expires_s - ROUNDED_S
        sessions = self.objects.listed(f"{self.folder}/{SESSIONS[:-1]}")
        living = {one.name.rpartition("/")[2] for one in sessions if one.modified >= oldest}
        living -= {self._token, *self._idle}
        found = {token: self._steps_of(token) for token in living}
        self._idle |= {token for token, steps in found.items() if steps == NONE}
        return {token: steps for token, steps in found.items() if steps != NONE}

    def _steps_of(self, token: str) -> str:
        """What a session says; one of an earlier version claims each step."""
        try:
            steps = json.loads(self.objects.get(self._session(token)))["steps"]
        except FileNotFoundError:  # it has ended right now
            return NONE
        except (ValueError, TypeError, KeyError, RecursionError):
            return EACH
        return str(steps)
