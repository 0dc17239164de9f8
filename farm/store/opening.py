"""Open a store by its address: a folder, or a place in an object store.

A driver gets one that reads each record once in a run, since it asks for it many times.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from farm.files import cache_folder
from farm.specs import Ref
from farm.store import Alteration, Record, Store, integrity
from farm.store.objects import is_url

if TYPE_CHECKING:
    from farm.store.objects import Objects

V = TypeVar("V")


class CachedStore(Store):
    """A store for one run of a driver, which keeps what it has read of finished steps.

    A record is read again after `drop`, and until it is there: a step that is not done may be done
    by the next question. What it keeps of 1,000 cells are a few megabytes, since a record's
    `inputs` are left out: they are half of it, and a driver has them in its plan.
    """

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        self._records: dict[Ref, Record] = {}
        self._shared: dict[Any, Any] = {}

    @classmethod
    def of(cls, store: Store) -> CachedStore:
        """Return the store itself where it is one of these, else one on the same folder."""
        return store if isinstance(store, CachedStore) else cls(store.root)

    def any_record(self, ref: Ref) -> Record | None:
        """Return the record as `Store.any_record` does, without its inputs."""
        if (known := self._records.get(ref)) is not None:
            return known
        record = super().any_record(ref)
        return None if record is None else self._kept(ref, record)

    def compared(self, ref: Ref, anew: bool = False) -> tuple[Record | None, list[Alteration]]:
        """Compare an artifact as `Store.compared`; its record is not read again."""
        if (known := self._records.get(ref)) is not None and not anew:
            return known, integrity.altered(self.path(ref), known)
        record, found = super().compared(ref, anew)
        if record is not None and not found:
            record = self._kept(ref, record)
        return record, found

    def drop(self, ref: Ref) -> None:
        """Forget what was read of a step: its artifact was made anew, or removed."""
        self._records.pop(ref, None)

    def note(self, record: Record) -> None:
        """Keep a record as if it had been read."""
        self._kept(Ref(record.stage, record.key), record)

    def remove(self, ref: Ref) -> bool:
        """Remove an artifact as `Store.remove`, and forget its record."""
        self.drop(ref)
        return super().remove(ref)

    def publish(self, folder: Path, record: Record) -> None:
        """Publish as `Store.publish`; the record is read from its file when it is asked for."""
        self.drop(Ref(record.stage, record.key))
        super().publish(folder, record)

    def _kept(self, ref: Ref, record: Record) -> Record:
        node, toolchain = self._same(record.node), self._same(record.toolchain)
        self._records[ref] = small = replace(record, inputs={}, toolchain=toolchain, node=node)
        return small

    def _same(self, values: dict[str, V]) -> dict[str, V]:
        """Return one dictionary for all that are equal: most steps of a run have the same."""
        try:
            found: dict[str, V] = self._shared.setdefault(tuple(values.items()), values)
        except TypeError:  # a value that has no hash
            return values
        return found


VARIABLE = "FARM_CACHE"
"""Names another folder for what nodes have of object stores."""


def open_store(address: str | Path, cached: bool = False) -> Store:
    """Return the store of an address.

    cached: for a driver, which asks for each record many times; see `CachedStore`.

    Raises:
        InputError: it is an address of no object store, or one that cannot be used.
    """
    if is_url(str(address)):
        from farm.store.remote.node import NodeFolder, most_bytes
        from farm.store.remote.store import RemoteStore

        objects = open_objects(str(address))
        node = NodeFolder(own_folder(str(address)) / "store", most_bytes())
        return RemoteStore(objects, node, with_inputs=not cached)
    return CachedStore(address) if cached else Store(address)


def open_objects(url: str) -> Objects:
    """Return the objects of an address. Raises InputError."""
    from farm.store.remote.opening import opened

    return opened(url)


def own_folder(url: str) -> Path:
    """Return the folder of this machine that holds what it has of an address.

    Raises:
        InputError: the variables that name the service are wrong.
    """
    from farm.store.remote.opening import endpoint

    name = hashlib.sha256(f"{url.rstrip('/')} {endpoint(url)}".encode()).hexdigest()[:16]
    base = os.environ.get(VARIABLE)
    return (Path(base).expanduser() if base else cache_folder() / "remote").resolve() / name
