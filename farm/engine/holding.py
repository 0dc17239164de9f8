"""Hold names in a store: of the sweeps that run, and of who removes what no sweep needs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from farm.engine.claims import EXPIRES_S, path_of, remote
from farm.files.lease import Lease
from farm.store.upkeep import needs

if TYPE_CHECKING:
    from farm.specs import Ref
    from farm.store import Store

log = logging.getLogger(__name__)

REMOVING = "gc"
"""The name that is held by who removes artifacts."""

_PAUSE_S = 1.0


@contextmanager
def held(store: Store, name: str, wait_s: float = 0.0) -> Iterator[bool]:
    """Hold a name for the block if no living process does; say whether that is so.

    wait_s: how many seconds to wait for another in a folder.

    Raises:
        OSError: the store cannot be written.
    """
    if (other := remote(store)) is not None:
        from farm.store.remote.claims import session

        with session(other.objects) as claims:
            yield claims.claim(name)
        return
    lease = Lease(path_of(store, name), EXPIRES_S)
    try:
        yield lease.acquire(wait_s)
    finally:
        lease.release()


@contextmanager
def announced(store: Store, sweep: str, results: str, steps: Iterable[Ref]) -> Iterator[None]:
    """Leave what a sweep needs, and say for the block that it runs.

    It has to be left before the store is looked at. Who removes artifacts meanwhile may not have
    seen it, and is waited for.

    Raises:
        OSError: the store cannot be written.
    """
    with held(store, f"sweep.{needs.id_of(sweep, results)}"):
        needs.write(store.objects, sweep, results, steps)
        _await(store, REMOVING)
        yield


def _await(store: Store, name: str) -> None:
    """Wait until no living process holds the name."""
    said = False
    while _is_held(store, name):
        if not said:
            log.info("`farm gc` is removing what no sweep needs; waiting for it.")
        said = True
        time.sleep(_PAUSE_S)


def _is_held(store: Store, name: str) -> bool:
    if (other := remote(store)) is not None:
        from farm.store.remote.claims import session

        with session(other.objects) as claims:
            return claims.is_held_elsewhere(name)
    with held(store, name, _PAUSE_S) as free:  # other sweeps look, too, for a moment
        return not free
