"""The native libraries of installed packages: by content where they are small, else by size."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

from farm.plan import digests

MOST_READ = 32_000_000
"""Bytes of all libraries of one package; gigabytes would take too long for a plan."""

_LIBRARY = re.compile(r"\.(so(\.\d+)*|pyd|dll|dylib)$")


@dataclass(frozen=True)
class Library:
    """As the installer wrote it down. digest: sha256, as RECORD has it. size: in bytes."""

    name: str
    digest: str
    size: int

    def fits(self, root: str) -> bool:
        """Whether it has that size still; one that is gone changes nothing."""
        path = Path(root, self.name)
        return not path.is_file() or path.stat().st_size == self.size


def listed(dist: Distribution) -> list[Library]:
    """Those that its RECORD lists in folders of packages."""
    found = []
    for line in (dist.read_text("RECORD") or "").splitlines():
        name, _, rest = line.rpartition(",sha256=")
        digest, _, size = rest.partition(",")
        if _LIBRARY.search(name) and not name.startswith(("..", '"')) and size.isdecimal():
            found.append(Library(name, digest, int(size)))
    return found


def small(libraries: Iterable[Library]) -> bool:
    return sum(one.size for one in libraries) <= MOST_READ


def digest(places: Iterable[Path]) -> str:
    """Of all libraries in these folders, as they are now; '' where there are none."""
    files = [(place, path) for place in places for path in _files(place)]
    read = sum(path.stat().st_size for _, path in files) <= MOST_READ
    parts = [
        f"{path.relative_to(place.parent)}\0{_state(path, read)}\n".encode(errors="surrogateescape")
        for place, path in files
    ]
    return hashlib.sha256(b"".join(parts)).hexdigest() if parts else ""


def _state(path: Path, read: bool) -> str:
    return digests.of_file(path) if read else str(path.stat().st_size)


def _files(place: Path) -> Sequence[Path]:
    found = [Path(root, name) for root, _, names in os.walk(place) for name in names]
    found = [place] if place.is_file() else found
    return sorted(path for path in found if _LIBRARY.search(path.name) and path.is_file())
