"""Files of an archive or a folder that somebody else made, taken one by one, each looked at first.

Only regular files are taken, under names that are the same on every machine; links, pipes, devices,
sparse files, and names that climb or stand twice are refused. Nothing is larger than the limits
say, also where a small archive unpacks to more. With the standard library alone, and nothing of it
that some Pythons lack (`tarfile.data_filter` came with 3.10.12 and 3.11.4).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from farm.errors import InputError

_CHUNK = 1 << 20
_HEADER = 64 << 10
"""As much as a member's headers may take, its long name and others' extensions included."""


class Refused(Exception):
    """A member that is not taken; the message names it."""


@dataclass(frozen=True)
class Limits:
    """files: how many there may be. file: bytes of one. total: bytes of all, unpacked."""

    files: int
    file: int
    total: int


@dataclass(frozen=True)
class Member:
    """A regular file: its name with `/` between folders, its size, and its bytes to be read."""

    name: str
    size: int
    content: IO[bytes]


def write(member: Member, folder: Path) -> None:
    """The member as a new file below the folder. Raises Refused where it has not its size."""
    place = folder / member.name
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with place.open("xb") as file:
        while data := member.content.read(min(_CHUNK, member.size + 1 - written)):
            written += file.write(data)
    if written != member.size:
        raise Refused(f"{member.name!r} has not its {member.size} bytes: torn, or being written")


def members(source: Path, limits: Limits, kind: str) -> Iterator[Member]:
    """The regular files of an archive (tar, also by gzip, xz or bzip2) or of a folder, in order.

    Raises InputError, with the member's name, for one that is refused, and for a torn archive.
    """
    names = _Names(limits)
    found = _of_folder(source, names) if source.is_dir() else _of_archive(source, names)
    while True:
        with errors_named(source, kind):
            try:
                member = next(found)
            except StopIteration:
                return
        yield member


@contextmanager
def errors_named(source: Path, kind: str) -> Iterator[None]:
    """Raises InputError in place of what is raised while a member is found or read."""
    torn = (
        tarfile.TarError, EOFError, OSError, ValueError, ArithmeticError, zlib.error,
        lzma.LZMAError, RecursionError,
    )  # fmt: skip
    try:
        yield
    except Refused as error:
        raise InputError(f"refused: {error}", str(source)) from None
    except torn as error:
        reason = f"torn, or not {kind}: {type(error).__name__}: {error}"
        raise InputError(f"{reason}; bring it here again", str(source)) from None


class _Names:
    """The names and sizes so far, each of which is looked at before anything is read of it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._known: dict[str, str] = {}
        self._total = self._entries = 0

    def entry(self, name: str) -> None:
        """Raises Refused for a name that is none, or one entry too many (folders count, too)."""
        self._entries += 1
        if self._entries > 2 * self.limits.files:
            raise Refused(f"more than {self.limits.files} files")
        _require_name(name)

    def file(self, name: str, size: int) -> None:
        """Raises Refused: stands twice, also where capitals are not told apart, or too large."""
        same = unicodedata.normalize("NFC", name).casefold()
        if other := self._known.get(same):
            twice = "stands twice" if other == name else f"differs from {other!r} in capitals only"
            raise Refused(f"{name!r} {twice}")
        self._known[same] = name
        self._total += size
        if len(self._known) > self.limits.files:
            raise Refused(f"more than {self.limits.files} files")
        if not 0 <= size <= self.limits.file:
            raise Refused(f"{name!r} has {size} bytes, at most {self.limits.file} are taken")
        if self._total > self.limits.total:
            raise Refused(f"{name!r}: all together have more than {self.limits.total} bytes")


def _require_name(name: str) -> None:
    """Raises Refused for what is no relative path of printable characters, or climbs."""
    parts = name.split("/")
    if not name.isprintable() or not _is_utf8(name):
        raise Refused(f"{name!r} has characters that are no text")
    if name.startswith("/") or "\\" in name or ":" in parts[0]:
        raise Refused(f"{name!r} is no relative path")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise Refused(f"{name!r} is no plain path below the archive")


def _is_utf8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:  # bytes that were no UTF-8
        return False


def _of_archive(archive: Path, names: _Names) -> Iterator[Member]:
    with archive.open("rb") as file, _unpacked(file) as content:
        bounded = _Bounded(content, names.limits.total + names.limits.files * 1024)
        bounded.allow(_HEADER)
        with tarfile.open(fileobj=bounded, mode="r:", encoding="utf-8") as tar:
            while member := tar.next():
                name = member.name.removeprefix("./") if member.name != "." else "."
                if member.isdir():
                    names.entry(name.rstrip("/")) if name != "." else None
                else:
                    names.entry(name)
                    yield _regular(tar, member, name, names, bounded)
                bounded.allow(_HEADER)


def _regular(
    tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, names: _Names, bounded: _Bounded
) -> Member:
    if not member.isreg() or member.issparse():
        raise Refused(f"{name!r} is no regular file, but {_kind(member)}")
    names.file(name, member.size)
    content = tar.extractfile(member)
    assert content is not None
    bounded.allow(member.size + _CHUNK)
    return Member(name, member.size, content)


def _kind(member: tarfile.TarInfo) -> str:
    if member.issparse():
        return "a sparse one"
    kinds = {
        tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link",
        tarfile.FIFOTYPE: "a pipe", tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device",
    }  # fmt: skip
    return kinds.get(member.type, f"of the type {member.type!r}")


@contextmanager
def _unpacked(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """The tar's own bytes, by what the file begins with."""
    begin = file.read(6)
    file.seek(0)
    openers: dict[bytes, Callable[[], Any]] = {
        b"\x1f\x8b": partial(gzip.GzipFile, fileobj=file),
        b"\xfd7zXZ\0": partial(lzma.LZMAFile, file),
        b"BZh": partial(bz2.BZ2File, file),
    }
    opened = next((make() for magic, make in openers.items() if begin.startswith(magic)), file)
    with opened:
        yield opened


class _Bounded(io.RawIOBase):
    """A stream of which no more is read at a time than is allowed, and nothing beyond its end: a
    header that claims to have gigabytes is found out before it is in memory."""

    def __init__(self, stream: IO[bytes], end: int) -> None:
        self._stream, self._end, self._left = stream, end, 0

    def allow(self, size: int) -> None:
        """From now on as many bytes may be read."""
        self._left = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > self._left:
            raise Refused("a member's header is larger than any name needs")
        data = self._stream.read(size)
        self._left -= len(data)
        return data

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or place > self._end:
            raise Refused(f"unpacked it has more than {self._end} bytes")
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()


def _of_folder(folder: Path, names: _Names) -> Iterator[Member]:
    """Links are not followed, whatever is put in a file's place meanwhile."""
    for place in _walk(folder, "", names):
        path = folder / place
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            names.file(place, size)
            yield Member(place, size, file)


def _walk(folder: Path, below: str, names: _Names) -> Iterator[str]:
    for entry in sorted(os.scandir(folder / below), key=lambda one: one.name):
        name = f"{below}/{entry.name}".removeprefix("/")
        names.entry(name)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(folder, name, names)
        elif stat.S_ISREG(mode):
            yield name
        else:
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, a socket or a device"
            raise Refused(f"{name!r} is no regular file, but {kind}")
