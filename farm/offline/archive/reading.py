"""Read the files of an archive or a folder that somebody else made, each checked beforehand."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from farm.errors import InputError
from farm.offline.archive.members import CHUNK, Limits, Member, MemberChecks, Refused

_HEADER = 64 << 10
"""The most bytes of a member's headers, with its long name and all extensions."""


def members(
    source: Path, limits: Limits, kind: str, parts: Sequence[Path] = ()
) -> Iterator[Member]:
    """Yield the regular files of an archive (tar, also by gzip, xz or bzip2) or of a folder.

    parts: the files that the archive was split into, in order; by default it is one file.

    Raises:
        InputError: a member is refused, whose name is said, or the archive is damaged.
    """
    checks = MemberChecks(limits)
    found = (
        _folder_members(source, checks)
        if source.is_dir()
        else _archive_members(parts or [source], checks)
    )
    while True:
        with errors_named(source, kind):
            try:
                member = next(found)
            except StopIteration:
                return
        yield member


@contextmanager
def errors_named(source: Path, kind: str) -> Iterator[None]:
    """Convert what is raised in this block, where a member is found or read.

    Raises:
        InputError: a member was refused, or the archive is damaged.
        OSError: the disk has an error, or no room: that is no fault of the archive.
    """
    damaged = (
        tarfile.TarError, EOFError, OSError, ValueError, ArithmeticError, zlib.error,
        lzma.LZMAError, RecursionError,
    )  # fmt: skip
    try:
        yield
    except Refused as error:
        raise InputError(f"refused: {error}", str(source)) from None
    except damaged as error:
        if getattr(error, "errno", None):
            raise  # an error of the disk, not of the archive
        reason = f"damaged, or not {kind}: {type(error).__name__}: {error}"
        raise InputError(f"{reason}; copy it here again", str(source)) from None


def _archive_members(parts: Sequence[Path], checks: MemberChecks) -> Iterator[Member]:
    """Yield the members of an archive that consists of these files, joined in their order.

    Raises:
        Refused: a member is not accepted.
        Exception: what tarfile and the decompressors raise for a damaged archive.
    """
    with io.BufferedReader(_Joined(parts), CHUNK) as file, _unpacked(file) as content:
        bounded = _Bounded(content, checks.limits.total + checks.limits.files * 1024)
        bounded.allow(_HEADER)
        with tarfile.open(fileobj=bounded, mode="r:", encoding="utf-8") as tar:
            while member := tar.next():
                name = member.name.removeprefix("./") if member.name != "." else "."
                if member.isdir():
                    checks.entry(name.rstrip("/")) if name != "." else None
                else:
                    checks.entry(name)
                    yield _regular(tar, member, name, checks, bounded)
                bounded.allow(_HEADER)


def _regular(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    name: str,
    checks: MemberChecks,
    bounded: _Bounded,
) -> Member:
    if not member.isreg() or member.issparse():
        raise Refused(f"{name!r} is no regular file, but {_kind(member)}")
    checks.file(name, member.size)
    content = tar.extractfile(member)
    assert content is not None
    bounded.allow(member.size + CHUNK)
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
    """Decompress a file if its first bytes are those of gzip, xz or bzip2."""
    magic = file.read(6)
    file.seek(0)
    openers: dict[bytes, Callable[[], Any]] = {
        b"\x1f\x8b": partial(gzip.GzipFile, fileobj=file),
        b"\xfd7zXZ\0": partial(lzma.LZMAFile, file),
        b"BZh": partial(bz2.BZ2File, file),
    }
    content = next((make() for begin, make in openers.items() if magic.startswith(begin)), file)
    with content:
        yield content


class _Joined(io.RawIOBase):
    """Reads several files as one stream."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts, self._at, self._file = parts, 0, parts[0].open("rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the current file, or from the next where that is at its end."""
        while not (count := self._file.readinto(buffer)) and self._at + 1 < len(self._parts):
            self._open(self._at + 1)
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset from the start. Raises io.UnsupportedOperation for another `whence`."""
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("only offsets from the start are supported")
        remaining = offset
        for number, part in enumerate(self._parts):
            size = part.stat().st_size
            if remaining <= size or number + 1 == len(self._parts):
                self._open(number)
                self._file.seek(remaining)
                break
            remaining -= size
        return offset

    def tell(self) -> int:
        before = sum(part.stat().st_size for part in self._parts[: self._at])
        return before + self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()

    def _open(self, number: int) -> None:
        self._file.close()
        self._at, self._file = number, self._parts[number].open("rb")


class _Bounded(io.RawIOBase):
    """Reads from a stream what `allow` permits, and nothing beyond its end.

    So a header that claims to have gigabytes is refused before it is in memory.
    """

    def __init__(self, stream: IO[bytes], end: int) -> None:
        self._stream, self._end, self._allowed = stream, end, 0

    def allow(self, size: int) -> None:
        """Set how many bytes may be read from now on."""
        self._allowed = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes. Raises Refused for more than is allowed."""
        if size is None or size < 0 or size > self._allowed:
            raise Refused("a member's header is larger than any name needs")
        data = self._stream.read(size)
        self._allowed -= len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset from the start. Raises Refused for one beyond the end."""
        if whence != os.SEEK_SET or offset > self._end:
            raise Refused(f"unpacked it has more than {self._end} bytes")
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()


def _folder_members(folder: Path, checks: MemberChecks) -> Iterator[Member]:
    """Yield the files of a folder. Links are not followed, also where one replaces a file now."""
    for name in _walk(folder, "", checks):
        path = folder / name
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            checks.file(name, size)
            yield Member(name, size, file)


def _walk(folder: Path, below: str, checks: MemberChecks) -> Iterator[str]:
    """Yield the names of regular files in order. Raises Refused for anything else but folders."""
    for entry in sorted(os.scandir(folder / below), key=lambda one: one.name):
        name = f"{below}/{entry.name}".removeprefix("/")
        checks.entry(name)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(folder, name, checks)
        elif stat.S_ISREG(mode):
            yield name
        else:
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "a pipe, a socket or a device"
            raise Refused(f"{name!r} is no regular file, but {kind}")
