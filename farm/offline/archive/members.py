"""Check the names and sizes of files that somebody else packed, before their content is read.

Only the standard library is used.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CHUNK = 1 << 20


class Refused(Exception):
    """A member that is not accepted; the message names it."""


@dataclass(frozen=True)
class Limits:
    """The most files of an archive, and the most bytes of one file and of all, unpacked."""

    files: int
    file: int
    total: int


@dataclass(frozen=True)
class Member:
    """A regular file: its name with `/` between folders, its size, and a stream of its content."""

    name: str
    size: int
    content: IO[bytes]


class MemberChecks:
    """Check each name and size against those seen so far and against the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._known: dict[str, str] = {}
        self._total = self._entries = 0

    def entry(self, name: str) -> None:
        """Count a file or a folder.

        Raises:
            Refused: the name is invalid, or there are too many entries.
        """
        self._entries += 1
        if self._entries > 2 * self.limits.files:
            raise Refused(f"more than {self.limits.files} files")
        _require_name(name)

    def file(self, name: str, size: int) -> None:
        """Count a file and its bytes.

        Raises:
            Refused: the name is repeated or differs from another in capitals only, or a limit is
                exceeded.
        """
        same = unicodedata.normalize("NFC", name).casefold()
        if other := self._known.get(same):
            twice = "appears twice" if other == name else f"differs from {other!r} in capitals only"
            raise Refused(f"{name!r} {twice}")
        self._known[same] = name
        self._total += size
        if len(self._known) > self.limits.files:
            raise Refused(f"more than {self.limits.files} files")
        if not 0 <= size <= self.limits.file:
            raise Refused(f"{name!r} has {size} bytes, at most {self.limits.file} are accepted")
        if self._total > self.limits.total:
            raise Refused(f"{name!r}: all together have more than {self.limits.total} bytes")


def _require_name(name: str) -> None:
    """Raises Refused for a name that is no relative path of printable characters."""
    parts = name.split("/")
    if not name.isprintable() or not _is_utf8(name):
        raise Refused(f"{name!r} has characters that cannot be printed")
    if name.startswith("/") or "\\" in name or ":" in parts[0]:
        raise Refused(f"{name!r} is no relative path")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise Refused(f"{name!r} is no plain path below the archive")


def _is_utf8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:  # bytes that were no UTF-8
        return False


def extract_member(member: Member, folder: Path) -> None:
    """Write the member as a new file below the folder.

    Raises:
        Refused: the content is shorter or longer than the size that was stated.
        OSError: the file cannot be written.
    """
    path = folder / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with path.open("xb") as file:
        while data := member.content.read(min(CHUNK, member.size + 1 - written)):
            written += file.write(data)
    if written != member.size:
        raise Refused(
            f"{member.name!r} does not have its {member.size} bytes: damaged, or being written"
        )
