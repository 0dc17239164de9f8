"""Read every artifact of a store, those of imports included, and say which are not whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.specs import Ref
from farm.store import integrity
from farm.store.imports import Imported, imports
from farm.store.integrity import RECORD, Alteration
from farm.store.records import HERE, read_record

if TYPE_CHECKING:
    from pathlib import Path

    from farm.store import Record, Store


@dataclass(frozen=True)
class Surveyed:
    """An artifact, and what of it is not as its step left it.

    label: of its step; empty where the record cannot be read. size: of its files, in bytes.
    imported: the import that it is part of, if it is.
    """

    ref: Ref
    label: str
    size: int
    found: tuple[Alteration, ...]
    imported: Imported | None = None

    @property
    def origin(self) -> str:
        """Where its step was done: `here`, or the name of the import."""
        return str(self.imported.origin) if self.imported else HERE

    @property
    def is_altered(self) -> bool:
        """Whether its own files are not whole; a file that no step left there harms none."""
        return any(one.how != "unknown" for one in self.found)


def artifacts(store: Store) -> Iterator[tuple[Ref, Imported | None]]:
    """Yield every artifact of a store and of its imports."""
    for imported in (None, *imports(store)):
        for ref in (imported.store if imported else store).artifacts():
            yield ref, imported


def surveyed(store: Store, ref: Ref, imported: Imported | None = None) -> Surveyed | None:
    """Read all of an artifact, whatever was found of it before; None if it is there no more."""
    holder = imported.store if imported else store
    try:
        record, found = holder.compared(ref, anew=True)
    except OSError as error:
        record, found = None, [Alteration(str(error.filename or RECORD), "unreadable")]
    if record and holder.path(ref).exists():
        found = [*found, *integrity.unknown(holder.path(ref), record)]
    if not holder.holds(ref):
        return None
    kept = record or _readable(holder.path(ref))
    size = sum(kept.files.values()) if kept else 0
    return Surveyed(ref, kept.label if kept else "", size, tuple(found), imported)


def _readable(folder: Path) -> Record | None:
    """The record, for its label, where it is one in another step's place."""
    try:
        return read_record(folder / RECORD)
    except (OSError, ValueError, InputError):
        return None


def remove(store: Store, one: Surveyed) -> None:
    """Remove an altered artifact; of an import all of it, which can then be imported again.

    Raises:
        OSError: it cannot be removed.
    """
    if one.imported is None:
        store.remove(one.ref)
    else:
        store.remove_import(one.imported.store.root.name)
