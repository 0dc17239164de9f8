"""Remove what no kept sweep needs of a store: what there is, what is chosen, and its removal.

Safe while sweeps run: one that begins leaves what it needs before it looks at the store, and then
waits while anybody removes something; see `engine.holding`. So either is seen by the other.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from farm.specs import Ref
from farm.store.integrity import RECORD
from farm.store.upkeep.needs import Needs

if TYPE_CHECKING:
    from farm.store import Store
    from farm.store.objects import Objects

HOUR, DAY = 3600.0, 86400.0

YOUNGEST_S = HOUR
"""What is younger stays: single-model tools, for one, leave word of nothing that they need."""

_UNFINISHED_S = DAY
"""So old are files without a record that nobody is putting any more."""

_ARTIFACT = re.compile(r"(\w+)/[0-9a-f]{2}/([0-9a-f]{64})/(.+)")
_FAILURE = re.compile(r"failed/([0-9a-f]{64})[./].+")


@dataclass(frozen=True)
class Kept:
    """An artifact, or what is left of a failed step (`ref.stage` is empty then).

    made: when its newest file was written, in seconds since 1970. names: of its files.
    """

    ref: Ref
    size: int
    made: float
    finished: bool
    names: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """What may go of what no kept sweep needs.

    older_than_s: what is older. most_bytes: the oldest, until the store is no larger than that. All
    of it where both are None.
    """

    older_than_s: float | None = None
    most_bytes: int | None = None


@dataclass
class _Found:
    size: int = 0
    made: float = 0.0
    names: list[str] = field(default_factory=list)


def clock(objects: Objects) -> float:
    """Return the time by the clock that the store's files have theirs from. Raises OSError."""
    name = f"claims/{secrets.token_hex(8)}.now"
    objects.put(name, b"")
    now = objects.entry(name).modified
    objects.delete([name])
    return now


def with_parents(store: Store, refs: Iterable[Ref]) -> set[Ref]:
    """Return the steps and all whose artifacts they have read, by their records."""
    found, new = set[Ref](), set(refs)
    while new:
        found |= new
        store.learn(new)
        records = (store.any_record(ref) for ref in new)
        named = (name.split("/") for record in records if record for name in record.parents)
        new = {Ref(*parts) for parts in named if len(parts) == 2} - found
    return found


def inventory(objects: Objects) -> list[Kept]:
    """Return all artifacts and failures of a store. Raises OSError."""
    found: dict[Ref, _Found] = {}
    for entry in objects.listed(""):
        if match := _ARTIFACT.fullmatch(entry.name):
            ref = Ref(match[1], match[2])
        elif match := _FAILURE.fullmatch(entry.name):
            ref = Ref("", match[1])
        else:
            continue
        one = found.setdefault(ref, _Found())
        one.size += entry.size
        one.made = max(one.made, entry.modified)
        one.names.append(entry.name)
    return [
        Kept(
            ref, one.size, one.made, not ref.stage or any(map(_is_record, one.names)),
            tuple(one.names),
        )
        for ref, one in found.items()
    ]  # fmt: skip


def _is_record(name: str) -> bool:
    return name.count("/") == 3 and name.endswith(f"/{RECORD}")


def claimed(objects: Objects, now: float) -> set[str]:
    """Return the keys of the steps that may be under way. Raises OSError."""
    entries = list(objects.listed("claims"))
    recent = [one for one in entries if one.modified > now - YOUNGEST_S]
    alive = any("/sessions/" in one.name for one in recent)  # whose claims may be older
    return {one.name.rpartition("/")[2] for one in (entries if alive else recent)}


def running(needs: Iterable[Needs], claims: Collection[str]) -> list[Needs]:
    """Return the sweeps that may be running."""
    return [one for one in needs if f"sweep.{one.id}" in claims]


def chosen(
    kept: Sequence[Kept],
    needed: Collection[Ref],
    claims: Collection[str],
    policy: Policy,
    now: float,
) -> list[Kept]:
    """Return what is to be removed, the oldest first.

    needed: the steps of the sweeps that are kept. claims: see `claimed`. now: by the clock of the
    store's files.
    """
    keys = {ref.key for ref in needed}
    free = [one for one in kept if _is_free(one, needed, keys, claims, now)]
    free.sort(key=lambda one: one.made)
    if policy.older_than_s is None and policy.most_bytes is None:
        return free
    total, found = sum(one.size for one in kept), []
    for one in free:
        old = policy.older_than_s is not None and one.made <= now - policy.older_than_s
        if old or (policy.most_bytes is not None and total > policy.most_bytes):
            found.append(one)
            total -= one.size
    return found


def _is_free(
    one: Kept, needed: Collection[Ref], keys: Collection[str], claims: Collection[str], now: float
) -> bool:
    """Whether nobody needs it."""
    if one.ref.key in claims or one.made > now - YOUNGEST_S:
        return False
    if not one.finished:
        return one.made <= now - _UNFINISHED_S
    return one.ref not in needed and (bool(one.ref.stage) or one.ref.key not in keys)


def remove(store: Store, gone: Sequence[Kept]) -> None:
    """Remove artifacts and failures. Raises OSError."""
    for one in gone:
        if not one.ref.stage:
            store.objects.delete(one.names)
    store.remove_all({one.ref: one.names for one in gone if one.ref.stage})
