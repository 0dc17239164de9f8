"""Claims of steps, so that sweeps that share a store do not run the same step at the same time."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from farm import interrupts
from farm.files.lease import Lease
from farm.store.objects import is_url

if TYPE_CHECKING:
    from farm.plan.steps import Step
    from farm.store import Store
    from farm.store.remote.store import RemoteStore

log = logging.getLogger(__name__)

EXPIRES_S = 20.0
"""After how many seconds without a sign of life the steps of a dead sweep are free."""

_MANY = 16
"""A run of fewer steps in an object store claims each: that is hardly more requests."""


class Claims:
    """The claims of one run, each a lease in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, Lease | None] = {}

    def __contains__(self, key: str) -> bool:
        """Whether this run holds the claim of the step with this key."""
        return key in self._held

    def begin(self, steps: Iterable[Step]) -> None:
        """Prepare to claim the steps."""

    def claim(self, step: Step) -> bool:
        """Claim the step, and return whether no other sweep has it. What was read of it before is
        then forgotten."""
        if step.key in self:
            return True
        lease = Lease(path_of(self._store, step.key), EXPIRES_S)
        with interrupts.deferred():
            try:
                if not lease.acquire():
                    return False
            except OSError as error:  # the step itself will say what is wrong with the store
                log.debug("%s %s cannot be claimed: %s", step.stage, step.label, error)
            self._held[step.key] = lease
        self._store.drop(step.ref)  # who had the claim before may have done the step
        return True

    def release(self, key: str) -> None:
        """Give a claim back."""
        with interrupts.deferred():
            if lease := self._held.pop(key, None):
                lease.release()

    def release_all(self) -> None:
        """Give all claims back."""
        for key in list(self._held):
            self.release(key)


class RemoteClaims:
    """The claims of one run in an object store. While it is alone there it claims no step."""

    def __init__(self, store: RemoteStore) -> None:
        from farm.store.remote.runs import RunClaims

        self._store, self._claims = store, RunClaims(store.objects)
        self._held = set[str]()

    def begin(self, steps: Iterable[Step]) -> None:
        """Find out whether other runs are there, before the first of the steps begins."""
        refs = [step.ref for step in steps]
        if len(refs) < _MANY:
            return
        try:
            self._claims.begin()
            if self._claims.alone:
                self._store.ask_anew(refs)  # what others did while they were there
                self._store.alone = True
        except OSError as error:
            log.debug("it is not known who else is there: %s", error)

    def __contains__(self, key: str) -> bool:
        """Whether this run has the step with this key, also where that could not be claimed."""
        return key in self._held

    def claim(self, step: Step) -> bool:
        """Claim the step, and return whether no other sweep has it."""
        if step.key in self:
            return True
        try:
            if not self._claims.claim(step.key):
                return False
            self._store.alone = self._claims.alone
            if not self._store.alone:
                self._store.look(step.ref)  # who had the claim before may have done the step
        except OSError as error:  # the step itself will say what is wrong with the service
            log.debug("%s %s cannot be claimed: %s", step.stage, step.label, error)
        self._held.add(step.key)
        return True

    def release(self, key: str) -> None:
        """Give a claim back."""
        self._held.discard(key)
        self._claims.release(key)

    def release_all(self) -> None:
        """Give all claims back."""
        self._held.clear()
        self._store.alone = False
        self._claims.release_all()


def claims_of(store: Store) -> Claims | RemoteClaims:
    """Return the claims of a new run."""
    found = remote(store)
    return Claims(store) if found is None else RemoteClaims(found)


def remote(store: Store) -> RemoteStore | None:
    """Return the store itself if it is in an object store; what that needs is then imported."""
    if not is_url(store.address):
        return None
    from farm.store.remote.store import RemoteStore

    assert isinstance(store, RemoteStore)
    return store


def path_of(store: Store, key: str) -> Path:
    """Return the file of a step's claim."""
    return store.root / "claims" / key


def remove_stale_work(store: Store) -> int:
    """Remove the working folders of steps that no living sweep has claimed, and the claims of dead
    ones; return how many folders."""
    if (other := remote(store)) is not None:
        from farm.store.remote.claims import session
        from farm.store.remote.leftovers import remove_dead

        with session(other.objects) as own:
            remove_dead(own)
        return other.node.remove_abandoned()
    count = 0
    for folder in (store.root / "tmp").glob("*"):
        lease = Lease(path_of(store, folder.name.partition(".")[0]), EXPIRES_S)
        try:
            if not lease.acquire():
                continue
        except OSError as error:
            log.debug("%s is not removed: %s", folder, error)
            continue
        shutil.rmtree(folder, ignore_errors=True)
        if folder.is_file():
            folder.unlink(missing_ok=True)
        lease.release()
        count += 1
    _remove_stale_claims(store)
    return count


def dead_claims(store: Store, now: float) -> list[str]:
    """Return the names of the claims of dead processes, and not those of their sessions.

    now: by the clock of the store's files.

    Raises:
        OSError: the store cannot be read.
    """
    if remote(store) is not None:
        from farm.store.remote.claims import SESSIONS
        from farm.store.remote.leftovers import dead

        return [one for one in dead(store.objects, now) if not one.startswith(SESSIONS)]
    old = now - EXPIRES_S
    found = [one for one in store.objects.listed("claims") if one.modified < old]
    names = (one.name.removeprefix("claims/") for one in found)
    return sorted(name for name in names if not name.startswith("."))


def _remove_stale_claims(store: Store) -> None:
    """Remove the claims of sweeps that were killed when they had published a step."""
    for path in (store.root / "claims").glob("[!.]*"):
        with suppress(OSError):
            if (lease := Lease(path, EXPIRES_S)).acquire():
                lease.release()
