"""Which steps a store sees begin and end, as it happens: the kernel tells of their working folders.

A supervisor makes `tmp/<key>.<host>.<pid>.<time>` for each execution of a step; it is renamed when
the artifact is published, and removed otherwise.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from farm.store import Store

_CREATE, _MOVED_FROM, _DELETE = 0x100, 0x40, 0x200  # inotify(7)
_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_HEADER = struct.Struct("iIII")
_FOLDER = re.compile(r"([0-9a-f]{64})\.[^/]+\.\d+\.\d+")


@dataclass
class Execution:
    """One execution of a step, with times by `time.monotonic`. published: its artifact counts."""

    key: str
    began: float
    ended: float | None = None
    published: bool = False


@dataclass(frozen=True)
class Event:
    """A step's begin or end. what: `start`, or `end` where its artifact was published."""

    what: str
    stage: str


class StepLog:
    """The executions that are begun in the folders of stores, in their order.

    stages: those of the steps, by key.
    """

    def __init__(self, roots: Iterable[Path], stages: Mapping[str, str]) -> None:
        self.executions: list[Execution] = []
        self._stages, self._open = stages, dict[str, Execution]()
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        mask = _CREATE | _MOVED_FROM | _DELETE
        for root in roots:
            folder = root / "tmp"
            folder.mkdir(parents=True, exist_ok=True)
            if libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask) < 0:
                raise OSError(ctypes.get_errno(), "cannot be watched", str(folder))

    def close(self) -> None:
        """Watch no longer."""
        os.close(self._descriptor)

    def poll(self, seconds: float) -> list[Event]:
        """Wait for events, at most so long, and return those that came."""
        select.select([self._descriptor], [], [], seconds)
        events = []
        with contextlib.suppress(BlockingIOError):
            for mask, name in _read(os.read(self._descriptor, 1 << 16)):
                if event := self._noted(mask, name):
                    events.append(event)
        return events

    def by_key(self) -> dict[str, list[Execution]]:
        """Return the executions of each step, in their order."""
        found: dict[str, list[Execution]] = defaultdict(list)
        for one in self.executions:
            found[one.key].append(one)
        return found

    def _noted(self, mask: int, name: str) -> Event | None:
        match = _FOLDER.fullmatch(name)
        if match is None:  # that of the nodes' reports, or a step's outcome
            return None
        return self._begun(name, match[1]) if mask & _CREATE else self._ended(name, mask)

    def _begun(self, name: str, key: str) -> Event | None:
        self._open[name] = Execution(key, time.monotonic())
        self.executions.append(self._open[name])
        return Event("start", self._stages.get(key, ""))

    def _ended(self, name: str, mask: int) -> Event | None:
        if one := self._open.pop(name, None):
            one.ended = time.monotonic()
            return self._published(one) if mask & _MOVED_FROM else None
        return None

    def _published(self, one: Execution) -> Event | None:
        one.published = True
        return Event("end", self._stages.get(one.key, ""))


class FolderLog(StepLog):
    """The executions in a store that is a folder."""

    def __init__(self, root: Path, stages: Mapping[str, str]) -> None:
        super().__init__([root], stages)


class ObjectLog(StepLog):
    """The executions in the folders that nodes have of a store in S3.

    A node fetches what a step reads into a working folder, too, but only after that was published.
    records: the paths of the records that were put, of any store; it grows.
    """

    def __init__(
        self, roots: Iterable[Path], stages: Mapping[str, str], records: Sequence[str]
    ) -> None:
        super().__init__(roots, stages)
        self._records, self._read, self._done = records, len(records), set[str]()
        self._ends: list[Event] = []

    def poll(self, seconds: float) -> list[Event]:
        """Wait for events, at most so long, and return those that came."""
        events = super().poll(seconds)
        self._look()
        events, self._ends = events + self._ends, []
        return events

    def _look(self) -> None:
        """Look which records were put since."""
        new = self._records[self._read :]
        self._read += len(new)
        for key in (path.split("/")[-2] for path in new):
            self._done.add(key)
            own = [one for one in self.executions if one.key == key and not one.published]
            if own:
                own[-1].ended = own[-1].ended or time.monotonic()
                own[-1].published = True
                self._ends.append(Event("end", self._stages.get(key, "")))

    def _begun(self, name: str, key: str) -> Event | None:
        self._look()
        return None if key in self._done else super()._begun(name, key)

    def _published(self, one: Execution) -> Event | None:
        return None  # only its record in S3 counts


def stages_in(root: Path) -> dict[str, str]:
    """Return the stages of the steps that are done in a store, by key.

    Without `compare`, whose key has in it what was measured before.
    """
    found = (record.parent for record in root.glob("*/*/*/record.json"))
    stages = {folder.name: folder.parts[-3] for folder in found}
    return {key: stage for key, stage in stages.items() if stage != "compare"}


def descendants(root: Path, keys: Sequence[str]) -> set[str]:
    """Return these steps of a store, and those that read what they made, and so on."""
    store, children = Store(root), defaultdict[str, set[str]](set)
    for stage in {*stages_in(root).values()}:
        for ref in store.refs(stage):
            record = store.record(ref)
            for parent in record.parents if record else ():
                children[parent.partition("/")[2]].add(ref.key)
    found, waiting = set[str](), list(keys)
    while waiting:
        if (key := waiting.pop()) not in found:
            found.add(key)
            waiting += children[key]
    return found


def _read(data: bytes) -> Iterator[tuple[int, str]]:
    """The masks and names of inotify's events."""
    while data:
        _, mask, _, length = _HEADER.unpack_from(data)
        yield mask, os.fsdecode(data[_HEADER.size : _HEADER.size + length].rstrip(b"\0"))
        data = data[_HEADER.size + length :]
