"""The files of a store in an object store that have come to the folder of this node."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from farm.errors import AlteredArtifact
from farm.specs import Ref
from farm.store import Alteration, Record, Store, integrity
from farm.store.integrity import RECORD
from farm.store.objects import Objects, at_once
from farm.store.place import NO_FILES
from farm.store.remote import artifacts
from farm.store.remote.answers import Answers
from farm.store.remote.node import NodeFolder

PARTS = "parts"
"""The folder of files without the rest of their artifact, laid out as a stage, so that there is a
bound to it, too."""


@cache
def _in_folder(root: Path) -> Store:
    """The store in a folder, whose path is resolved once."""
    return Store(root)


class Arrivals(Answers):
    """The answers of a store, and the files that are fetched to the folder of this node."""

    def __init__(self, objects: Objects, node: NodeFolder, with_inputs: bool) -> None:
        super().__init__(objects, node.root, with_inputs)
        self.node = node

    def learn(self, refs: Iterable[Ref], files: Mapping[str, Collection[str]] = NO_FILES) -> None:
        """Ask for many steps at once, and fetch the files of these names by stage."""
        refs = list(dict.fromkeys(refs))
        self.ask(refs)
        known = [(ref, self._records[ref]) for ref in refs if ref in self._records]
        wanted = [
            (ref, name)
            for ref, one in known
            for name in files.get(ref.stage, ())
            if name in one.files
        ]
        at_once(lambda one: self._with_file(*one), wanted)

    def _with_file(self, ref: Ref, name: str) -> None:
        with suppress(OSError, AlteredArtifact):  # said by whoever reads it
            self.whole_file(ref, name)

    def whole_file(self, ref: Ref, name: str) -> Path:
        """Return a file of an artifact, as `Store.whole_file`; no other is fetched."""
        record = self.any_record(ref)
        if record is None:
            raise AlteredArtifact(
                ref, f"{RECORD} is {'altered' if ref in self._torn else 'missing'}"
            )
        if name not in record.files:
            raise FileNotFoundError(errno.ENOENT, f"no file of {ref.stage} {ref.key[:12]}", name)
        with self.node.held([ref.key]):
            if self._is_here(ref, record):
                return self.path(ref) / name
        alone = replace(record, files={name: record.files[name]})
        folder = self.root / PARTS / ref.key[:2] / ref.key
        with self.node.alone(ref.key):
            if not integrity.altered(folder, alone):
                return folder / name
            if found := artifacts.download_file(self.objects, ref, record, name, folder):
                raise AlteredArtifact(ref, str(found))
        self.node.added(record.files[name])
        return folder / name

    def compared(self, ref: Ref, anew: bool = False) -> tuple[Record | None, list[Alteration]]:
        """Return the record, and what of it is altered; with `anew` also of its files, all of which
        are read."""
        record = self.read_anew(ref) if anew else self.any_record(ref)
        if record is None:
            return None, [Alteration(RECORD, "altered" if ref in self._torn else "missing")]
        if not anew:
            return record, []
        with self._scratch(ref) as folder:
            return record, artifacts.download(self.objects, ref, folder)

    def altered(self, ref: Ref, anew: bool = False) -> list[Alteration]:
        """Return what of an artifact is altered, files included, which are then in the folder."""
        record, found = self.compared(ref)
        return found if record is None else self._arrived(ref, record, anew)

    def files(self, ref: Ref) -> Path:
        """Return the folder with the files of an artifact, which are as their step left them.

        Raises:
            AlteredArtifact: they are not; it is removed, so that its step can run again.
            OSError: they cannot be had.
        """
        self._fetch(ref, self._required(ref))
        self.node.make_room()
        return self.path(ref)

    def _required(self, ref: Ref, digest: str = "") -> Record:
        """Return the record of an artifact that is read: the one here if it has the digest, else
        what is answered. Raises AlteredArtifact."""
        if digest and (mine := self._here.record(ref)) and mine.digest == digest:
            return mine
        if (record := self.read_anew(ref)) is not None:
            return record
        if ref in self._torn:
            raise self._lost(ref, [Alteration(RECORD, "altered")])
        raise AlteredArtifact(ref, f"{RECORD} is missing")  # its files may be being put right now

    def _fetch(self, ref: Ref, record: Record) -> None:
        """Have the files of an artifact in the folder. Raises AlteredArtifact."""
        if found := self._arrived(ref, record):
            raise self._lost(ref, found)

    def _lost(self, ref: Ref, found: Sequence[Alteration]) -> AlteredArtifact:
        self.discard(ref, integrity.listed(found))
        return AlteredArtifact(ref, integrity.listed(found))

    def _arrived(self, ref: Ref, record: Record, anew: bool = False) -> list[Alteration]:
        """Have the files of an artifact in the folder; return what of them is altered.

        anew: ask for them also where they are in the folder, and compare.
        """
        with self.node.held([ref.key]):  # steps that run may hold it for hours
            here = self._is_here(ref, record)
            if here and not anew:
                return []
            if here:
                with self._scratch(ref) as folder:
                    return artifacts.download(self.objects, ref, folder)
        with self.node.alone(ref.key):
            if self._is_here(ref, record):
                return []
            with self._scratch(ref) as folder:
                known = record if self._with_inputs else None
                if found := artifacts.download(self.objects, ref, folder, known):
                    return found
                integrity.forget(self.path(ref))
                self.node.remove(self.path(ref))
                self.path(ref).parent.mkdir(parents=True, exist_ok=True)
                folder.rename(self.path(ref))
        self.node.added(sum(record.files.values()))
        return []

    @contextmanager
    def _scratch(self, ref: Ref) -> Iterator[Path]:
        folder = self.work_folder(ref.key)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _is_here(self, ref: Ref, record: Record) -> bool:
        """Whether the folder has the very files of the record."""
        return self._whole_here(ref, record.digest) is not None

    def _whole_here(self, ref: Ref, digest: str) -> Record | None:
        """The record of this digest, if it is in the folder with all that it names."""
        mine = self._here.record(ref)
        if mine is None or mine.digest != digest or integrity.altered(self.path(ref), mine):
            return None
        return mine

    @property
    def _here(self) -> Store:
        return _in_folder(self.root)
