"""A store whose records are read once in a run: the driver asks for each of them many times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from farm.specs import Ref
from farm.store import Alteration, Record, Store, integrity

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
