"""A folder that mirrors objects: what is read comes from them first, what is written goes there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from farm.files import atomic, jsonfile
from farm.store.objects import Entry, Objects, at_once

_MARKS = ".mirror.json"
"""In the folder: by name of an object, its tag, and the size and the time of change of its file."""


class Mirror:
    """The objects of an address, and the folder of this machine that mirrors them."""

    def __init__(self, objects: Objects, folder: Path) -> None:
        self.objects, self.folder = objects, folder

    def pull(self, prefix: str, wanted: Callable[[str], bool] = lambda _: True) -> None:
        """Make the folder's files below `prefix` those of the objects.

        wanted: says by its name whether an object is mirrored; its file is left alone otherwise.

        Raises:
            OSError: the service fails, or the folder cannot be written.
        """
        entries = {one.name: one for one in self.objects.listed(prefix) if wanted(one.name)}
        marks = self._marks()
        new = (one for one in entries.values() if self._mark(one) != marks.get(one.name))
        at_once(self._fetch, new)
        for name in self._files(prefix):
            if name not in entries and wanted(name):
                (self.folder / name).unlink(missing_ok=True)
        self._keep({**marks, **{one.name: self._mark(one) for one in entries.values()}})

    def push(self, names: Iterable[str]) -> None:
        """Put files of the folder as objects. Raises OSError."""

        def put(name: str) -> tuple[str, str]:
            return name, self.objects.put(name, self.folder / name)

        tags = dict(at_once(put, names))
        own = {name: self._mark(Entry(name, 0, 0.0, tag)) for name, tag in tags.items()}
        self._keep({**self._marks(), **own})

    def _fetch(self, entry: Entry) -> None:
        path = self.folder / entry.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path, durable=False) as part:
            self.objects.download(entry.name, part)
            part.chmod(0o600)  # the matrices of sweeps may have secrets in them

    def _files(self, prefix: str) -> Iterator[str]:
        for path in (self.folder / prefix).rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.folder).as_posix()

    def _mark(self, entry: Entry) -> list[object]:
        tag = entry.tag.replace('"', "")  # which some services leave out of listings
        try:
            found = os.stat(self.folder / entry.name)
        except OSError:
            return [tag, -1, -1]
        return [tag, found.st_size, found.st_mtime_ns]

    def _marks(self) -> dict[str, list[object]]:
        try:
            value = jsonfile.read(self.folder / _MARKS)
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _keep(self, marks: dict[str, list[object]]) -> None:
        there = {name: mark for name, mark in marks.items() if (self.folder / name).exists()}
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write(self.folder / _MARKS, json.dumps(there), durable=False, private=True)
