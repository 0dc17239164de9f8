"""What sweeps need of a store: each leaves its steps there, so that `farm gc` knows them.

    <store>/sweeps/<name>.<digest of its results' place>.json

The files are in the store and not with the results, since several results may share a store.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from farm.errors import InputError
from farm.files import jsonfile
from farm.specs import Ref
from farm.store.objects import Entry, Objects

FOLDER = "sweeps"
_END = ".json"


@dataclass(frozen=True)
class _File:
    """sweep, results: its name and place. steps: the keys of its steps, by stage."""

    sweep: str
    results: str
    steps: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Needs:
    """The steps that a sweep needs, and when it was run last, in seconds since 1970. id: its name
    and that of its results, by which it is held while it runs."""

    id: str
    sweep: str
    results: str
    steps: frozenset[Ref]
    run: float


def id_of(sweep: str, results: str) -> str:
    """Return what tells a sweep from those of the same name in other results."""
    return f"{sweep}.{hashlib.sha256(results.encode()).hexdigest()[:8]}"


def write(objects: Objects, sweep: str, results: str, steps: Iterable[Ref]) -> None:
    """Write what a sweep needs that begins now. Raises OSError."""
    by_stage = defaultdict(list)
    for ref in steps:
        by_stage[ref.stage].append(ref.key)
    text = json.dumps({"sweep": sweep, "results": results, "steps": by_stage})
    objects.put(f"{FOLDER}/{id_of(sweep, results)}{_END}", text.encode())


def read(objects: Objects) -> list[Needs]:
    """Return what all sweeps need, the one that was run last first.

    Raises:
        InputError: a file is damaged: nobody knows what that sweep needs.
        OSError: one cannot be read.
    """
    found = (_read(objects, entry) for entry in objects.listed(FOLDER))
    return sorted(filter(None, found), key=lambda one: one.run, reverse=True)


def _read(objects: Objects, entry: Entry) -> Needs | None:
    name = entry.name.removeprefix(f"{FOLDER}/")
    if not name.endswith(_END) or name.startswith("."):
        return None
    try:
        found = jsonfile.decode(_File, jsonfile.parse(objects.get(entry.name)))
    except FileNotFoundError:
        return None
    except (ValueError, InputError) as error:
        what = f"{entry.name} is damaged ({error}); run its sweep again, or remove it"
        raise InputError(what, objects.url) from None
    steps = frozenset(Ref(stage, key) for stage, keys in found.steps.items() for key in keys)
    return Needs(name.removesuffix(_END), found.sweep, found.results, steps, entry.modified)


def forget(objects: Objects, needs: Iterable[Needs]) -> None:
    """Remove the files of sweeps. Raises OSError."""
    objects.delete([f"{FOLDER}/{one.id}{_END}" for one in needs])
