"""Remove what is not whole in a store, so that the next sweep makes it anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from farm.specs import Ref
from farm.store import integrity

if TYPE_CHECKING:
    from farm.store import Record, Store

_BUILDS = "build/"
"""Of the same file a runtime may build another engine, so figures of the earlier one go with it."""


def discard_altered(store: Store, refs: Iterable[Ref]) -> list[Ref]:
    """Remove those of these artifacts that are not as their steps left them, and return them.

    An artifact that was made of another state of its parents goes, too: so figures are always those
    of the engine that is there. Files are read where they were not read before.

    refs: of steps, parents before children; those that are not done are passed over.

    Raises:
        OSError: an artifact cannot be read or removed.
    """
    gone, absent, contents = list[Ref](), set[str](), dict[str, str]()
    looked_at = dict[str, Ref]()
    for ref in refs:
        name = f"{ref.stage}/{ref.key}"
        looked_at[name] = ref
        if not store.holds(ref):
            absent.add(name)
            continue
        record, found = store.compared(ref)
        reason = integrity.listed(found) if found else outdated(record, contents, absent)
        if reason and record and not found:
            # Another sweep may have made the parents since they were looked at.
            _look_again(store, [ref, *map(looked_at.get, record.parents)], contents, absent)
            record = store.record(ref)
            reason = outdated(record, contents, absent)
        if reason:
            store.discard(ref, reason)
            gone.append(ref)
            absent.add(name)
        elif record:
            contents[name] = record.content
    return gone


def _look_again(
    store: Store, refs: Iterable[Ref | None], contents: dict[str, str], absent: set[str]
) -> None:
    """Ask for artifacts once more, and note what they are now."""
    for ref in filter(None, refs):
        store.drop(ref)
        if store.holds(ref) and (record := store.record(ref)):
            contents[f"{ref.stage}/{ref.key}"] = record.content
            absent.discard(f"{ref.stage}/{ref.key}")


def outdated(
    record: Record | None, contents: Mapping[str, str], absent: Collection[str] = ()
) -> str | None:
    """Return why an artifact is not of its parents as they are; None if it is.

    contents: the digests of the parents' files, by `<stage>/<key>`; others are not compared.
    absent: the parents that will be made anew.
    """
    for parent, content in record.parents.items() if record else ():
        if parent in absent and parent.startswith(_BUILDS):
            return "its engine is made anew"
        if contents.get(parent, content) != content:
            return f"it was made of another {parent.partition('/')[0]} than is there now"
    return None
