"""What dead processes have left of their claims in an object store: it blocks nobody, and goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.store.objects import Objects, at_once
from farm.store.remote import claims
from farm.store.remote.claims import SESSIONS, token_of

if TYPE_CHECKING:
    from farm.store.remote.claims import ObjectClaims


def dead(objects: Objects, now: float, folder: str = "claims") -> list[str]:
    """Return the names of the claims of dead processes, and then those of their sessions.

    now: by the service's clock, in seconds since 1970.

    Raises:
        OSError: the service fails.
    """
    oldest = now - claims.EXPIRES_S - claims.ROUNDED_S
    found = {one.name.removeprefix(f"{folder}/"): one.modified for one in objects.listed(folder)}
    sessions = {name for name in found if name.startswith(SESSIONS)}
    old = {name for name, modified in found.items() if modified < oldest}

    def is_dead(name: str) -> bool:
        try:
            session = f"{SESSIONS}{token_of(objects.get(f'{folder}/{name}'))}"
        except FileNotFoundError:  # it was given back right now
            return False
        except ValueError:  # nobody has put so large a claim
            return True
        return session not in sessions or session in old

    names = sorted(old - sessions)
    of_dead = [name for name, is_so in zip(names, at_once(is_dead, names), strict=True) if is_so]
    return [*of_dead, *sorted(old & sessions)]


def remove_dead(own: ObjectClaims) -> list[str]:
    """Remove the claims of dead processes and their sessions; return their names.

    A claim is taken over before it is deleted, so that no other process has it by then.

    Raises:
        OSError: the service fails.
    """
    if next(own.objects.listed(own.folder), None) is None:
        return []
    return [name for name in dead(own.objects, own.now(), own.folder) if _removed(own, name)]


def _removed(own: ObjectClaims, name: str) -> bool:
    """Remove a claim or a session; return whether nobody else has it by now."""
    if name.startswith(SESSIONS):
        own.objects.delete([f"{own.folder}/{name}"])
        return True
    if is_own := own.claim(name):
        own.release(name)
    return is_own
