"""A folder that mirrors objects: what is read comes from them first, what is written goes there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from farm.files import atomic, jsonfile
from farm.store.objects import Objects, at_once

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
        tags = {one.name: one.tag for one in self.objects.listed(prefix) if wanted(one.name)}
        marks = self._marks()
        at_once(self._fetch, [name for name in tags if self._mark(name, tags) != marks.get(name)])
        for name in self._files(prefix):
            if name not in tags and wanted(name):
                (self.folder / name).unlink(missing_ok=True)
        self._keep(marks, tags)

    def push(self, names: Iterable[str]) -> None:
        """Put files of the folder as objects. Raises OSError."""

        def put(name: str) -> tuple[str, str]:
            return name, self.objects.put(name, self.folder / name)

        tags = dict(at_once(put, names))
        self._keep(self._marks(), tags)

    def _fetch(self, name: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path, durable=False) as part:
            self.objects.download(name, part)
            part.chmod(0o600)  # the matrices of sweeps may have secrets in them

    def _files(self, prefix: str) -> Iterator[str]:
        for path in (self.folder / prefix).rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.folder).as_posix()

    def _mark(self, name: str, tags: Mapping[str, str]) -> list[object]:
        tag = tags[name].replace('"', "")  # which some services leave out of listings
        try:
            found = os.stat(self.folder / name)
        except OSError:
            return [tag]
        return [tag, found.st_size, found.st_mtime_ns]

    def _marks(self) -> dict[str, list[object]]:
        try:
            value = jsonfile.read(self.folder / _MARKS)
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _keep(self, marks: Mapping[str, list[object]], tags: Mapping[str, str]) -> None:
        """Keep the marks of the files that are there, anew for the objects with these tags."""
        found = {**marks, **{name: self._mark(name, tags) for name in tags}}
        there = {name: mark for name, mark in found.items() if (self.folder / name).exists()}
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic.write(self.folder / _MARKS, json.dumps(there), durable=False, private=True)
