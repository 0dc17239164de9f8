"""Write a pack as one .tar.gz or as parts of a bounded size, and find the parts of a pack."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

from farm.errors import InputError

_PART = re.compile(r"(.+)\.(\d+)of(\d+)")

_LEVEL = 1
"""Weights are nearly random bits: gzip 1 leaves 0.930 of fp32 ones at 10 MB/s on one core of a
Xeon, gzip 6 0.928, xz 0.927 at 0.5 MB/s."""

Source = Path | bytes


def write_pack(
    path: Path, members: Iterable[tuple[str, Source]], part_size: int | None
) -> list[Path]:
    """Write the archive, in place of an earlier one, and return its files.

    part_size: the most bytes of a file; the parts are PATH.1of3 and so on. The files have temporary
    names until all are complete.

    Raises:
        OSError: a file cannot be written; the temporary files are removed.
    """
    stream = _Parts(path, part_size)
    file = cast("IO[bytes]", stream)  # it has the methods that gzip calls
    try:
        with (
            gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, source in members:
                _add(tar, name, source)
        return stream.finish()
    finally:
        stream.discard()


def _add(tar: tarfile.TarFile, name: str, source: Source) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if isinstance(source, bytes):
        member.size = len(source)
        tar.addfile(member, io.BytesIO(source))
        return
    with source.open("rb") as file:
        member.size = os.fstat(file.fileno()).st_size
        tar.addfile(member, file)


class _Parts:
    """A stream that continues in a new file when the current one has the size of a part."""

    def __init__(self, path: Path, size: int | None) -> None:
        self._path, self._size = path, size
        self._written: list[Path] = []
        self._room = 0
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> int:
        """Write all data, to as many files as needed."""
        rest = memoryview(data)
        while rest:
            if self._file is None or self._room == 0:
                self._file = self._begin()
            piece, rest = rest[: self._room], rest[self._room :]
            self._file.write(piece)
            self._room -= len(piece)
        return len(data)

    def flush(self) -> None:
        """Do nothing: `finish` writes everything to the disk."""

    def _begin(self) -> IO[bytes]:
        if self._file is not None:
            _sync(self._file)
        number = len(self._written) + 1
        self._written.append(self._path.with_name(f".{self._path.name}.{os.getpid()}.{number}"))
        self._room = self._size or 1 << 62
        return self._written[-1].open("wb")

    def finish(self) -> list[Path]:
        """Give the files their names, and remove those of an earlier pack of that name."""
        assert self._file is not None
        _sync(self._file)
        total = len(self._written)
        names = [
            self._path.with_name(f"{self._path.name}.{i}of{total}") for i in range(1, total + 1)
        ]
        final = names if total > 1 else [self._path]
        earlier = set(_parts_beside(self._path)) | {self._path}
        for part, path in zip(self._written, final, strict=True):
            part.replace(path)
        for path in earlier - set(final):
            path.unlink(missing_ok=True)
        return final

    def discard(self) -> None:
        """Remove the files that still have temporary names."""
        if self._file is not None:
            self._file.close()
        for part in self._written:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()


def find_parts(paths: list[Path]) -> list[Path]:
    """Return the files of a pack in order: one archive, or all parts of it.

    Parts that are not named are looked for beside the first one.

    Raises:
        InputError: a part is missing, or a file is not a part of this pack.
    """
    first = paths[0]
    found = _PART.fullmatch(first.name)
    if len(paths) == 1 and not found:
        if not first.exists() and (beside := _parts_beside(first)):
            return find_parts([beside[0]])
        return [_existing(first)]
    if not found:
        raise InputError("not a part of a pack; give one pack, or parts NAME.1of3", str(first))
    stem, total = found[1], int(found[3])
    named = {path.name: path for path in paths}
    names = [f"{stem}.{number}of{total}" for number in range(1, min(total, 100_000) + 1)]
    if others := sorted(set(named) - set(names)):
        raise InputError(f"not a part of {stem} (of {total})", str(named[others[0]]))
    return [_existing(named.get(name, first.with_name(name))) for name in names]


def _parts_beside(path: Path) -> list[Path]:
    found = ((one, _PART.fullmatch(one.name)) for one in path.parent.glob(f"{path.name}.*of*"))
    return sorted(one for one, match in found if match and match[1] == path.name)


def _existing(path: Path) -> Path:
    if path.is_dir():
        raise InputError("a folder; expected the file that `farm pack` wrote", str(path))
    if not path.is_file():
        what = "part" if _PART.fullmatch(path.name) else "pack"
        raise InputError(f"no such {what}; `farm pack MATRIX` makes one", str(path))
    return path
