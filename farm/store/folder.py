"""The files of a folder as objects, for what is the same of a store in a folder and elsewhere."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from farm.errors import InputError
from farm.files import atomic, jsonfile
from farm.store.objects import Entry


class FolderObjects:
    """The files below a folder; see `Objects`.

    Without conditions on puts: processes that share a folder claim names by leases in it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def url(self) -> str:
        """Return the path of the folder."""
        return str(self._root)

    def require_reachable(self) -> None:
        """Raise InputError where the folder is not there."""
        if not self._root.is_dir():
            raise InputError("there is no such folder", self.url)

    def get(self, name: str) -> bytes:
        """Return the content of a small file. Raises ValueError for one that is not small."""
        try:
            return jsonfile.read_bytes(self._root / name)
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from None

    def put(self, name: str, content: bytes | Path) -> str:
        """Write bytes, or the content of another file, in place of what is there."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(path, durable=False) as part:
            if isinstance(content, Path):
                shutil.copyfile(content, part)
            else:
                part.write_bytes(content)
        return self.entry(name).tag

    def put_if_absent(self, name: str, content: bytes) -> str | None:
        """Raise NotImplementedError."""
        raise NotImplementedError

    def replace(self, name: str, content: bytes, tag: str) -> str | None:
        """Raise NotImplementedError."""
        raise NotImplementedError

    def download(self, name: str, path: Path) -> str:
        """Copy a file to a new one, and return the sha256 of what was written."""
        shutil.copyfile(self._root / name, path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def entry(self, name: str) -> Entry:
        """Return what a listing says of one file."""
        found = (self._root / name).stat()
        return Entry(name, found.st_size, found.st_mtime, f"{found.st_ino}-{found.st_mtime_ns}")

    def listed(self, folder: str) -> Iterator[Entry]:
        """Yield the files below a folder, in no order."""
        for parent, _, names in os.walk(self._root / folder):
            for name in names:
                path = os.path.relpath(os.path.join(parent, name), self._root)
                with suppress(FileNotFoundError):  # it was removed meanwhile
                    yield self.entry(path)

    def delete(self, names: Collection[str]) -> None:
        """Delete files; those that are not there are passed over."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    def has_conditions(self, name: str) -> bool:
        """Return False."""
        return False
