"""Records imported from other machines: they count in results, but never as work done here.

    <store>/elsewhere/<digest>/origin.json      the name, digest and time of the import
    <store>/elsewhere/<digest>/<stage>/...      its records, laid out as in a store
    <store>/elsewhere/<digest>/failed/...       its failures

Each import is a store of its own that no plan and no executor reads, so neither its records nor its
failures can replace a step that could run here.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from farm.errors import InputError
from farm.files import atomic, jsonfile
from farm.store import Store
from farm.store.records import Origin

NAME = "origin.json"


@dataclass(frozen=True)
class Imported:
    """One import: where it comes from, and its records."""

    origin: Origin
    store: Store


def place(store: Store, digest: str) -> Path:
    """Return the folder of an import."""
    return store.imports_folder() / digest


def write_origin(name: str, digest: str, folder: Path) -> None:
    """Write into the folder of an import where it comes from.

    Raises:
        OSError: it cannot be written.
    """
    atomic.write(folder / NAME, json.dumps(asdict(Origin(name, digest, time.time()))))


def imports(store: Store) -> list[Imported]:
    """Return all imports, the newest first, without torn ones."""
    found = []
    for path in store.imports_folder().glob(f"*/{NAME}"):
        try:
            origin = jsonfile.decode(Origin, jsonfile.read(path))
        except (OSError, ValueError, InputError):
            continue
        found.append(Imported(origin, Store(path.parent)))
    return sorted(found, key=lambda one: one.origin.imported, reverse=True)
