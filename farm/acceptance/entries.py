"""What is taken from an archive or a folder that somebody else made, and what is refused."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import IO

CHUNK = 1 << 20


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


class Names:
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


def write(member: Member, folder: Path) -> None:
    """The member as a new file below the folder. Raises Refused where it has not its size."""
    place = folder / member.name
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with place.open("xb") as file:
        while data := member.content.read(min(CHUNK, member.size + 1 - written)):
            written += file.write(data)
    if written != member.size:
        raise Refused(f"{member.name!r} has not its {member.size} bytes: torn, or being written")
