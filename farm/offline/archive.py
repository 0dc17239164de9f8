"""Read the files of an archive or a folder that somebody else made, each checked beforehand.

Only regular files are accepted, and only names that mean the same on every machine. Links, pipes,
devices, sparse files, names that lead out of the folder and repeated names are refused. The limits
hold for the unpacked size, too. `tarfile.data_filter` is not used, since Python has it from 3.10.12
and 3.11.4 on only.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from farm.errors import InputError
from farm.offline.members import Limits, Member, MemberChecks, Refused, extract_member
from farm.offline.tarred import archive_members

__all__ = ["Limits", "Member", "Refused", "errors_named", "extract_member", "members"]


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
        else archive_members(parts or [source], checks)
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
