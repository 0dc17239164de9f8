"""Records of other machines: what they found counts in results, and nowhere as work done here.

    <store>/elsewhere/<digest>/origin.json      what was imported, and when
    <store>/elsewhere/<digest>/<stage>/...      its records, as in a store
    <store>/elsewhere/<digest>/failed/...       its failures

Each import is a store of its own, which no plan and no executor looks into: neither its records nor
its failures can stand for a step that could run here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from farm import atomic, jsonfile
from farm.errors import InputError
from farm.specs import Ref
from farm.store import Store

FOLDER, NAME = "elsewhere", "origin.json"

HERE = "here"
"""The origin of what was done in the store itself."""


@dataclass(frozen=True)
class Origin:
    """name: of the archive or folder. digest: the sha256 of all that was taken from it. imported:
    seconds since 1970."""

    name: str
    digest: str
    imported: float

    def __str__(self) -> str:
        """As a leaderboard names it: `1a2b3c4d5e6f records.tar.gz`."""
        return f"{self.digest[:12]} {self.name}"


@dataclass(frozen=True)
class Imported:
    """One import: where it came from, and its records."""

    origin: Origin
    store: Store


def place(store: Store, digest: str) -> Path:
    return store.root / FOLDER / digest


def write_origin(name: str, digest: str, folder: Path) -> None:
    atomic.write(folder / NAME, json.dumps(asdict(Origin(name, digest, time.time()))))


def imports(store: Store) -> list[Imported]:
    """All that were taken in, the newest first; torn ones are left out."""
    found = []
    for path in (store.root / FOLDER).glob(f"*/{NAME}"):
        try:
            origin = jsonfile.decode(Origin, jsonfile.read(path))
        except (OSError, ValueError, InputError):
            continue
        found.append(Imported(origin, Store(path.parent)))
    return sorted(found, key=lambda one: one.origin.imported, reverse=True)


def has_all(store: Store, refs: Sequence[Ref]) -> bool:
    """Whether one of the imports has a record of each of these steps."""
    return any(all(one.store.any_record(ref) for ref in refs) for one in imports(store))
