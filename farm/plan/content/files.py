"""The user's files as planning sees them: found or not, and a digest of what matters in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from farm.errors import InputError
from farm.files import expanded
from farm.plan.content import digests
from farm.plan.content.code import code_parts
from farm.plan.content.digests import files_in
from farm.specs import File


class NotThere(InputError):
    """A file or folder of the user's that is not there, or not what it should be."""

    def __init__(self, kind: str, path: Path, what: str, where: str = "") -> None:
        super().__init__(f"{kind} {path} {what}", where)
        self.kind, self.path, self.what = kind, path, what

    def at(self, where: str) -> NotThere:
        return NotThere(self.kind, self.path, self.what, where)


def plain_file(kind: str, name: str, folder: Path) -> File:
    """Return a file that is no config and no code, with the digest of its content.

    Raises:
        NotThere: it does not exist, is a folder, or is empty.
        InputError: the name cannot be a path.
    """
    path = expanded(name, folder).resolve()
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise NotThere(kind, path, what)
    if path.stat().st_size == 0:
        raise NotThere(kind, path, "is empty")
    return File(str(path), digests.of_file(path))


def data_folder(name: str, folder: Path, suffixes: tuple[str, ...]) -> File:
    """Return the folder of a data set: its digest is of the content of files with these suffixes,
    and of the names and sizes of all others.

    Raises:
        NotThere: as `image_folder`.
        InputError: the name cannot be a path.
    """
    found = image_folder(name, folder)
    path = Path(found.path)
    own = [str(path / one) for one in files_in(path) if one.endswith(suffixes)]
    content = digests.remembered("content", own, lambda: _digest_of(own))
    digest = hashlib.sha256(f"{found.digest}{content}".encode()).hexdigest()
    return File(found.path, digest, suffixes)


def _digest_of(paths: Sequence[str]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(hashlib.sha256(Path(path).read_bytes()).digest())
    return total.hexdigest()


def image_folder(name: str, folder: Path) -> File:
    """Return a folder of images, with a digest of its files' names and sizes.

    Their content is not read: gigabytes would take minutes.

    Raises:
        NotThere: it does not exist, is a file, or is empty.
        InputError: the name cannot be a path.
    """
    path = expanded(name, folder).resolve()
    if not path.is_dir():
        what = "is a file, not a folder" if path.is_file() else "does not exist"
        raise NotThere("image folder", path, what)
    files = list(files_in(path))
    if not files:
        raise NotThere("image folder", path, "is empty")
    total = hashlib.sha256()
    for file in files:  # a name may be no UTF-8
        total.update(os.fsencode(f"{file}\0{_size(path / file)}\n"))
    return File(str(path), total.hexdigest())


def code_file(module: str, folder: Path) -> File:
    """Return the file of `package.module`, and in its digest all that it imports from `folder`.

    Raises:
        InputError: there is no such module, or one of the files is no Python.
    """
    parts = code_parts(module, folder)
    total = hashlib.sha256()
    for part in sorted(parts):
        total.update(part.name.encode() + b"\0" + part.read_bytes() + b"\0")
    return File(str(parts[-1]), total.hexdigest())


def _size(path: Path) -> int | None:
    """None of a link to nothing: that matters only if it is an image of the data set."""
    try:
        return path.stat().st_size
    except OSError:
        return None
