"""sha256 of the user's files and folders, cached by their sizes, inodes and times."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from farm.files import atomic, jsonfile
from farm.files import cache_folder as cache_folder

GRAIN_NS = 2_000_000_000
"""A file that changed within this time may change again with the same times: the clock of a file
system ticks in up to two seconds (FAT)."""

_KNOWN: dict[str, str] = {}


def write_cached(path: Path, text: str) -> None:
    """Write a file of the cache. One that cannot be written, as in a read-only home, is left out:
    the next run computes its content again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, text, durable=False)
    except OSError:
        return


def of_file(path: Path) -> str:
    """Return the sha256 of a file's content, 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    return remembered("file", [str(path)], lambda: _read(path))


def remembered(what: str, paths: Sequence[str], make: Callable[[], str]) -> str:
    """Return the result of `make`, which depends on the content of these files alone, or its cache.

    what: the purpose, since several results are made of the same files. It is made again where a
    file has another size, inode, or time of change (of its content or its metadata), or changed so
    recently that these cannot be trusted. That a file is missing is part of what is remembered.

    Raises:
        OSError: a file cannot be read.
    """
    mark, trusted = _mark(what, paths)
    if not trusted:
        return make()
    if (found := _KNOWN.get(mark) or _cached(mark)) is None:
        found = make()
        if _mark(what, paths) == (mark, True):  # else it changed while it was read
            write_cached(_place(mark), json.dumps({"sha256": found}))
    _KNOWN[mark] = found
    return found


def _mark(what: str, paths: Sequence[str]) -> tuple[str, bool]:
    """Return a digest of the files' metadata, and whether they changed long enough ago."""
    total, newest = hashlib.sha256(what.encode()), 0
    states = []
    for path in paths:
        try:
            stat = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            states.append(f"{path}\0missing\n")
            continue
        newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
        states.append(
            f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0"
            f"{stat.st_dev}\0{stat.st_ino}\n"
        )
    total.update("".join(states).encode(errors="surrogateescape"))
    return total.hexdigest(), newest < time.time_ns() - GRAIN_NS


def _place(mark: str) -> Path:
    return cache_folder() / "digests" / mark


def _cached(mark: str) -> str | None:
    try:
        return str(jsonfile.read(_place(mark))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def files_in(folder: Path) -> Iterator[str]:
    """Yield each file as `./name` or `folder/name`, in a fixed order; a linked folder's once."""
    seen = {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [one for one in sorted(folders) if _to_enter(os.path.join(root, one), seen)]
        place = os.path.relpath(root, folder)
        yield from (f"{place}/{name}" for name in sorted(names))


def _to_enter(path: str, seen: set[str]) -> bool:
    """Return whether to enter a folder: not by a link to one that was entered, or to a parent."""
    if not os.path.islink(path):
        return True
    target = os.path.realpath(path)
    if any(os.path.commonpath((target, one)) == target for one in seen):
        return False
    seen.add(target)
    return True
