"""The members of a tar archive, of which no header and no size is believed before it is bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from farm.acceptance.entries import CHUNK, Member, Names, Refused

_HEADER = 64 << 10
"""As much as a member's headers may take, its long name and others' extensions included."""


def of_archive(archive: Path, names: Names) -> Iterator[Member]:
    """Raises Refused, and what tarfile and the decompressors raise for a torn archive."""
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
    tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, names: Names, bounded: _Bounded
) -> Member:
    if not member.isreg() or member.issparse():
        raise Refused(f"{name!r} is no regular file, but {_kind(member)}")
    names.file(name, member.size)
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
