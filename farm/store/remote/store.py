"""A store in an object store, with a folder of it on each node in which its steps run."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from farm.errors import AlteredArtifact
from farm.specs import Ref
from farm.store import Alteration, Failure, Record, Store, integrity
from farm.store.integrity import RECORD
from farm.store.objects import Objects, at_once
from farm.store.place import IMPORTS, NONE_KNOWN
from farm.store.remote import artifacts
from farm.store.remote.answers import Answers
from farm.store.remote.mirror import Mirror
from farm.store.remote.node import NodeFolder


class RemoteStore(Answers):
    """A store whose artifacts are objects; `root` is the folder of this node.

    Of an artifact the files count by what arrives here: `compared` looks at the record alone.
    """

    def __init__(self, objects: Objects, node: NodeFolder, with_inputs: bool = True) -> None:
        super().__init__(objects, node.root, with_inputs)
        self.node, self._has_imports = node, False

    def anew(self) -> RemoteStore:
        """Return the same store, of which nothing was read yet."""
        return RemoteStore(self.objects, self.node, self._with_inputs)

    def learn(self, refs: Iterable[Ref], files: Collection[str] = ()) -> None:
        """Ask for many steps at once, and fetch the files of those of the stages `files`."""
        refs = list(dict.fromkeys(refs))
        self.ask(refs)
        wanted = [ref for ref in refs if ref.stage in files and ref in self._records]
        at_once(self._with_files, wanted)

    def _with_files(self, ref: Ref) -> None:
        with suppress(OSError, AlteredArtifact):  # said by whoever reads them
            self._fetch(ref, self._records[ref])

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
        if digest and (mine := Store(self.root).record(ref)) and mine.digest == digest:
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
        own = Store(self.root)
        mine = own.record(ref)
        return mine is not None and mine.digest == record.digest and not own.altered(ref)

    @contextmanager
    def on_this_node(
        self, ref: Ref, reads: Iterable[Ref], known: Mapping[Ref, str] = NONE_KNOWN
    ) -> Iterator[Store]:
        """Yield the folder of this node as a store that has what the step reads; put what the step
        leaves there.

        known: the digests of records as the driver knows them. A record of that digest that is here
        is not asked for.

        Raises:
            AlteredArtifact: what it reads is not whole.
            OSError: the service fails, or there is no room.
        """
        reads = list(dict.fromkeys(reads))
        records = at_once(lambda one: self._required(one, known.get(one, "")), reads)
        found = dict(zip(reads, records, strict=True))
        while True:
            with self.node.held([ref.key, *(one.key for one in found)]):
                if all(self._is_here(*one) for one in found.items()):
                    self._forget_outdated(ref, found)
                    yield Store(self.root)
                    self._put(ref)
                    break
            at_once(lambda one: self._fetch(*one), found.items())
        self.node.make_room()

    def _forget_outdated(self, ref: Ref, reads: Mapping[Ref, Record]) -> None:
        """Remove what an earlier try has left here of a step, unless it is of the same parents."""
        own = Store(self.root)
        mine = own.record(ref)
        contents = {f"{one.stage}/{one.key}": record.content for one, record in reads.items()}
        if mine and not mine.parents.items() <= contents.items():
            own.remove(ref)

    def _put(self, ref: Ref) -> None:
        """Put what a step has left in the folder: its artifact, or its failure."""
        own = Store(self.root)
        record = own.record(ref)
        self.drop(ref)
        artifacts.upload_failure(self.objects, ref.key, self.root / "failed")
        if record is None:
            return
        if artifacts.upload(self.objects, ref, record, self.path(ref)):
            self._records[ref] = record if self._with_inputs else replace(record, inputs={})
        else:
            self.node.remove(self.path(ref))  # another node was faster: its artifact counts
        self.node.added(sum(record.files.values()))

    def publish(self, folder: Path, record: Record) -> None:
        """Make a working folder the artifact of its step, here and as objects."""
        ref = Ref(record.stage, record.key)
        self.node.remove(self.path(ref))  # of an earlier make
        Store(self.root).publish(folder, record)
        self._put(ref)

    def remove(self, ref: Ref) -> bool:
        """Remove an artifact, so that its step counts as not done; return whether it was there."""
        self.drop(ref)
        Store(self.root).remove(ref)
        return artifacts.remove(self.objects, ref)

    def remove_all(self, refs: Mapping[Ref, Sequence[str]]) -> None:
        """Remove artifacts, all records before any file."""
        records = [f"{artifacts.place(ref)}/{RECORD}" for ref in refs]
        for ref in refs:
            self.drop(ref)
            Store(self.root).remove(ref)
        self.objects.delete(records)
        names = {name for one in refs.values() for name in one}
        self.objects.delete(sorted(names - set(records)))

    def record_failure(self, failure: Failure, log: Path | None, kept: Sequence[Path] = ()) -> None:
        """Record a failure, with its log."""
        Store(self.root).record_failure(failure, log, kept)
        self._failures.pop(failure.key, None)
        artifacts.upload_failure(self.objects, failure.key, self.root / "failed")

    def keep_log(self, key: str, log: Path | None) -> None:
        """Keep the log of a step that did not end well."""
        Store(self.root).keep_log(key, log)
        artifacts.upload_failure(self.objects, key, self.root / "failed")

    def imports_folder(self) -> Path:
        """Return the folder of this node that has the imports; they are fetched once."""
        if not self._has_imports:
            Mirror(self.objects, self.root).pull(IMPORTS)
            self._has_imports = True
        return self.root / IMPORTS

    def put_import(self, name: str) -> None:
        """Put an import that is complete in the folder."""
        files = (self.root / IMPORTS / name).rglob("*")
        names = [one.relative_to(self.root).as_posix() for one in files if one.is_file()]
        Mirror(self.objects, self.root).push(names)

    def remove_import(self, name: str) -> None:
        """Remove an import."""
        super().remove_import(name)
        self.objects.delete([one.name for one in self.objects.listed(f"{IMPORTS}/{name}")])

    @contextmanager
    def held(self, refs: Iterable[Ref]) -> Iterator[None]:
        """Keep the files of artifacts in the folder for the block."""
        with self.node.held(ref.key for ref in refs):
            yield

    def forget(self, ref: Ref) -> None:
        """Delete a recorded failure, so that the step is tried again."""
        self.objects.delete([f"failed/{ref.key}/{artifacts.FAILURE}"])
        self._failures.pop(ref.key, None)
