"""What an object store has said of steps, kept by a driver for its run; copies of their logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from farm.errors import InputError
from farm.specs import Ref
from farm.store import Failure, Record
from farm.store.integrity import LOG, RECORD
from farm.store.objects import Objects, at_once
from farm.store.opening import CachedStore
from farm.store.remote import artifacts

_ABSENT_S = 30.0
"""How long it is believed that an object is not there: another sweep may put it at any time, unless
this one is alone."""

_MANY = 16
"""From so many steps on, what is there is looked for by a listing."""

_MOST_LISTED = 100
"""Names in a listing for each of the steps; where there are more, each step is asked for: a request
lists a thousand, and asks for one."""


class Answers(CachedStore):
    """The records and failures of a store, asked for once until `drop`.

    root: the folder of this node. with_inputs: records keep their inputs in memory, too.

    alone: nobody else puts records or failures; what was absent stays so until `drop`.
    """

    alone = False

    def __init__(self, objects: Objects, root: Path, with_inputs: bool) -> None:
        super().__init__(root)
        self._objects, self._with_inputs = objects, with_inputs
        self._torn = set[Ref]()
        self._absent: dict[Ref, float] = {}
        self._failures: dict[str, tuple[Failure | None, float]] = {}

    @property
    def address(self) -> str:
        """Return the address of the objects."""
        return self.objects.url

    @property
    def objects(self) -> Objects:
        """Return the objects."""
        return self._objects

    def any_record(self, ref: Ref) -> Record | None:
        """Return the record of a finished step, without its inputs where they are not kept."""
        if (known := self._records.get(ref)) is not None:
            return known
        if ref in self._torn or self._holds_for(self._absent.get(ref)):
            return None
        return self.read_anew(ref)

    def _holds_for(self, until: float | None) -> bool:
        """Whether it is still believed that something is absent, as it was said until a time."""
        return until is not None and (self.alone or time.monotonic() < until)

    def read_anew(self, ref: Ref) -> Record | None:
        """Ask for a record, and keep the answer."""
        super().drop(ref)
        self._absent.pop(ref, None)
        self._torn.discard(ref)
        try:
            record = artifacts.read_record(self.objects, ref)
        except (ValueError, InputError):
            self._torn.add(ref)
            return None
        if record is None:
            self._absent[ref] = time.monotonic() + _ABSENT_S
            return None
        if self._with_inputs:
            self._records[ref] = record
            return record
        return self._kept(ref, record)

    def look(self, ref: Ref) -> None:
        """Ask anew for the record and for the failure of a step, at the same time."""
        self.drop(ref)
        looks: list[Callable[[], object]] = [
            partial(self.read_anew, ref), partial(self.failure, ref.key),
        ]  # fmt: skip
        at_once(lambda look: look(), looks)

    def ask_anew(self, refs: Iterable[Ref]) -> None:
        """Ask for many records and failures as `ask`, but also for those that were absent."""
        refs = list(refs)
        for ref in refs:
            self._absent.pop(ref, None)
            self._failures.pop(ref.key, None)
        self.ask(refs)

    def ask(self, refs: Iterable[Ref]) -> None:
        """Ask for many records at once, and for the failures of steps that have none."""
        known, now = set(self._records.keys() | self._torn), time.monotonic()
        refs = list(dict.fromkeys(refs))
        known.update(ref for ref in refs if self._holds_for(self._absent.get(ref)))
        new = [ref for ref in refs if ref not in known]
        at_once(self.read_anew, self._perhaps_there(new))
        missing = {ref.key for ref in refs if ref not in self._records}
        missing = {key for key in missing if not self._knows_failure(key)}
        if missing:
            failed = artifacts.failed(self.objects)
            self._failures |= dict.fromkeys(missing - failed, (None, now + _ABSENT_S))
            at_once(self.failure, missing & failed)

    def _perhaps_there(self, refs: list[Ref]) -> list[Ref]:
        """The steps without those that a listing of the records does not have."""
        if len(refs) < _MANY:
            return refs
        there, names = set[str](), _MOST_LISTED * len(refs)
        until = time.monotonic() + _ABSENT_S
        for stage in dict.fromkeys(ref.stage for ref in refs):
            for entry in self.objects.listed(stage):
                names -= 1
                if not names:
                    return refs
                if entry.name.endswith(f"/{RECORD}"):
                    there.add(entry.name)
        found = [ref for ref in refs if f"{artifacts.place(ref)}/{RECORD}" in there]
        self._absent |= dict.fromkeys(set(refs).difference(found), until)
        return found

    def note(self, record: Record) -> None:
        """Keep the record that a step has just put, unless inputs are kept, too, which it lacks."""
        if not self._with_inputs:
            super().note(record)

    def known(self, refs: Iterable[Ref]) -> dict[Ref, str]:
        """Return the digests of the records that were read before."""
        return {ref: self._records[ref].digest for ref in refs if ref in self._records}

    def holds(self, ref: Ref) -> bool:
        """Return whether there is an artifact, whole or not."""
        return self.any_record(ref) is not None or ref in self._torn

    def failure(self, key: str) -> Failure | None:
        """Return the recorded failure of a step."""
        if not self._knows_failure(key):
            found = artifacts.read_failure(self.objects, key)
            self._failures[key] = found, time.monotonic() + _ABSENT_S
        return self._failures[key][0]

    def _knows_failure(self, key: str) -> bool:
        known, until = self._failures.get(key, (None, None))
        return known is not None or self._holds_for(until)

    def drop(self, ref: Ref) -> None:
        """Forget what was read of a step."""
        super().drop(ref)
        self._absent.pop(ref, None)
        self._torn.discard(ref)
        self._failures.pop(ref.key, None)

    def exists(self) -> bool:
        """Return whether there are objects."""
        return next(self.objects.listed(""), None) is not None

    def artifacts(self) -> Iterator[Ref]:
        """Yield every artifact, whole or not."""
        found = {artifacts.ref_of(entry.name) for entry in self.objects.listed("")}
        yield from sorted(filter(None, found), key=lambda ref: (ref.stage, ref.key))

    def where(self, ref: Ref, name: str) -> str | None:
        """Return the address of a file or folder of an artifact; None if it is not there."""
        record = self.any_record(ref)
        if record and any(one == name or one.startswith(f"{name}/") for one in record.files):
            return f"{self.address}/{artifacts.make(ref, record)}/{name}"
        return None

    def refs(self, stage: str) -> Iterator[Ref]:
        """Yield every finished step of a stage."""
        for entry in self.objects.listed(stage):
            if entry.name.endswith(f"/{RECORD}"):
                yield Ref(stage, entry.name.split("/")[2])

    def log_path(self, ref: Ref) -> Path:
        """Return the path of a copy of the step's log, whether it ended well or not."""
        record = self.any_record(ref)
        folder = artifacts.make(ref, record) if record else f"failed/{ref.key}"
        # The log of a step that has said nothing is not put.
        return self._copy(f"{folder}/{LOG}", f"{ref.key}.log", b"" if record else None)

    def failed_file(self, key: str, name: str) -> Path:
        """Return the path of a copy of a file that was kept of a failed step."""
        return self._copy(f"failed/{key}/kept/{name}", f"{key}.{name}")

    def _copy(self, name: str, path: str, absent: bytes | None = None) -> Path:
        """Copy an object to a file of this machine. absent: what is in it where there is none."""
        copy = self.root / "copies" / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        try:
            self.objects.download(name, copy)
        except OSError as error:
            copy.unlink(missing_ok=True)
            if absent is not None and isinstance(error, FileNotFoundError):
                copy.write_bytes(absent)
        return copy
