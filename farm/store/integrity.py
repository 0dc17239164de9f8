"""Compare the files of an artifact with the digests in its record, without reading them each time.

A file that was found as its step left it is remembered by its size, inode and the times of change
of content and of inode: in this process, and in `checked.json` beside the record, so that a large
file is read once and not by each of the hundreds of steps that take it in, on whatever node.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from farm.files import atomic, jsonfile

if TYPE_CHECKING:
    from farm.store.records import Record

RECORD = "record.json"
LOG = "step.log"
"""What an artifact has beside the files of its stage; the record has no digest of them."""

MEMORY = "checked.json"
"""Beside a record: the marks of its files, by name. It is written anew where it is damaged."""

GRAIN_NS = 2_000_000_000
"""A file that changed within this time may change again with the same times: the clock of a file
system ticks in up to two seconds (FAT)."""

Mark = tuple[int, int, int, int]
"""What tells a file from a changed one: size, time of change of content and of inode in ns, inode.
The number of the file system is not in it, since that differs between nodes."""


@dataclass(frozen=True)
class _Memory:
    """What is known of an artifact whose record has this digest: the marks of the files that were
    found unaltered. lasting: those that had not just changed then, which other processes may trust.
    """

    record: str = ""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    lasting: Mapping[str, Mark] = field(default_factory=dict)


_known: dict[str, _Memory] = {}
"""What this process knows, by the folder of the artifact."""

_MOST_AT_ONCE = 1 << 20
"""Bytes of a file that are read at a time."""

_MOST_KNOWN = 4096
"""Artifacts; it is forgotten at more, so that a sweep of any size needs little memory."""


@dataclass(frozen=True)
class Alteration:
    """A file of an artifact that is not as its step left it. how: `altered`, `missing`, `unknown`
    (no step left it)."""

    file: str
    how: str

    def __str__(self) -> str:
        """Return it as messages say it: `images.bin is altered`."""
        return f"{self.file} is {self.how}"


def listed(found: Sequence[Alteration]) -> str:
    """Return the first of what was found, and how many more there are, for a message."""
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return f"{found[0]}{more}"


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file of a folder but the record, the log and the memory, by name.

    Raises:
        OSError: a file cannot be read.
    """
    return {name: of_file(path) for name, path in _files(folder) if path.is_file()}


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield all that is in a folder and in its folders but these, with its name there, sorted."""
    pending = [("", folder)]
    found = list[tuple[str, Path]]()
    while pending:
        prefix, inside = pending.pop()
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(inside) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{name}/", Path(entry.path)))
                elif name not in (RECORD, LOG, MEMORY) and not name.startswith(f".{MEMORY}."):
                    found.append((name, Path(entry.path)))
    yield from sorted(found)


def of_file(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        # No longer than a small file: to clear a large block takes longer than to read that. But
        # some file systems say of every file that it is empty.
        block = bytearray(min(os.fstat(file.fileno()).st_size or _MOST_AT_ONCE, _MOST_AT_ONCE))
        view = memoryview(block)
        while length := file.readinto(block):
            total.update(view[:length])
    return total.hexdigest()


def altered(folder: Path, record: Record, anew: bool = False) -> list[Alteration]:
    """Return the files of an artifact that are missing or have not the digest in its record.

    Files without a digest, of records of earlier versions, are compared by their sizes.

    anew: read every file, also those that were found unaltered before.

    Raises:
        OSError: a file cannot be read, for another reason than that it is not there.
    """
    memory = _remembered(folder, record)
    found, marks, lasting = list[Alteration](), dict[str, Mark](), dict[str, Mark]()
    for name, size in record.files.items():
        path, began = folder / name, time.time_ns()
        try:
            mark = _mark(path)
            known = not anew and memory.marks.get(name) == mark
            if not known and not _fits(path, size, record.digests.get(name), mark):
                found.append(Alteration(name, "altered"))
                continue
        except (FileNotFoundError, NotADirectoryError):
            found.append(Alteration(name, "missing"))
            continue
        marks[name] = mark
        if name in memory.lasting if known else max(mark[1:3]) < began - GRAIN_NS:
            lasting[name] = mark
    if record.digest:
        _remember(folder, memory, _Memory(record.digest, marks, lasting))
    return found


def _fits(path: Path, size: int, digest: str | None, mark: Mark) -> bool:
    """Whether a file has this size and digest, and did not change while it was read."""
    if mark[0] != size:
        return False
    return digest is None or (of_file(path) == digest and _mark(path) == mark)


def unknown(folder: Path, record: Record) -> list[Alteration]:
    """Return the files in the folder of an artifact that no step left there."""
    names = (name for name, _ in _files(folder))
    return [Alteration(name, "unknown") for name in names if name not in record.files]


def _mark(path: Path) -> Mark:
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _remembered(folder: Path, record: Record) -> _Memory:
    """What is known of the artifact; nothing where that was another record's."""
    own = _known.get(str(folder))
    if own is None or own.record != record.digest:
        own = _read(folder)
    return own if record.digest and own.record == record.digest else _Memory()


def _read(folder: Path) -> _Memory:
    try:
        value = jsonfile.read(folder / MEMORY)
        marks: dict[str, Mark] = {}
        for name, (size, changed, inode_changed, inode) in value["files"].items():
            marks[name] = size, changed, inode_changed, inode
        return _Memory(str(value["record"]), marks, marks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _Memory()


def _remember(folder: Path, before: _Memory, now: _Memory) -> None:
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[str(folder)] = now
    if now.lasting and now.lasting != before.lasting:
        text = json.dumps({"record": now.record, "files": now.lasting})
        with suppress(OSError):  # in a store that cannot be written files are read again
            atomic.write(folder / MEMORY, text, durable=False)


def forget(folder: Path) -> None:
    """Forget what this process knows of an artifact."""
    _known.pop(str(folder), None)
