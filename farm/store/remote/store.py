"""A store in an object store, with a folder of it on each node in which its steps run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from farm.specs import Ref
from farm.store import Failure, Record, Store
from farm.store.integrity import RECORD
from farm.store.objects import Objects, at_once
from farm.store.place import IMPORTS, NONE_KNOWN
from farm.store.remote import artifacts
from farm.store.remote.arrivals import Arrivals
from farm.store.remote.mirror import Mirror
from farm.store.remote.node import NodeFolder


class RemoteStore(Arrivals):
    """A store whose artifacts are objects; `root` is the folder of this node.

    Of an artifact the files count by what arrives here: `compared` looks at the record alone.
    """

    def __init__(self, objects: Objects, node: NodeFolder, with_inputs: bool) -> None:
        super().__init__(objects, node, with_inputs)
        self._has_imports = False

    def anew(self) -> RemoteStore:
        """Return the same store, of which nothing was read yet."""
        return RemoteStore(self.objects, self.node, self._with_inputs)

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
        digests = {one: known.get(one, "") for one in reads}
        while True:
            with self.node.held([ref.key, *(one.key for one in digests)]):
                found = {one: self._whole_here(one, digest) for one, digest in digests.items()}
                whole = {one: record for one, record in found.items() if record}
                if len(whole) == len(found):
                    self._forget_outdated(ref, whole)
                    yield self._here
                    self._put(ref)
                    break
            missing = [one for one in found if one not in whole]
            records = at_once(lambda one: self._fetched(one, digests[one]), missing)
            digests.update(zip(missing, (one.digest for one in records), strict=True))
        self.node.make_room()

    def _fetched(self, ref: Ref, digest: str) -> Record:
        """Have an artifact in the folder, and return its record. Raises as `on_this_node`."""
        record = self._required(ref, digest)
        self._fetch(ref, record)
        return record

    def _forget_outdated(self, ref: Ref, reads: Mapping[Ref, Record]) -> None:
        """Remove what an earlier try has left here of a step, unless it is of the same parents."""
        own = self._here
        mine = own.record(ref)
        contents = {f"{one.stage}/{one.key}": record.content for one, record in reads.items()}
        if mine and not mine.parents.items() <= contents.items():
            own.remove(ref)

    def _put(self, ref: Ref) -> None:
        """Put what a step has left in the folder: its artifact, or its failure."""
        own = self._here
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
        self._here.publish(folder, record)
        self._put(ref)

    def remove(self, ref: Ref) -> bool:
        """Remove an artifact, so that its step counts as not done; return whether it was there."""
        self.drop(ref)
        self._here.remove(ref)
        return artifacts.remove(self.objects, ref)

    def remove_all(self, refs: Mapping[Ref, Sequence[str]]) -> None:
        """Remove artifacts, all records before any file."""
        records = [f"{artifacts.place(ref)}/{RECORD}" for ref in refs]
        for ref in refs:
            self.drop(ref)
            self._here.remove(ref)
        self.objects.delete(records)
        names = {name for one in refs.values() for name in one}
        self.objects.delete(sorted(names - set(records)))

    def record_failure(self, failure: Failure, log: Path | None, kept: Sequence[Path] = ()) -> None:
        """Record a failure, with its log."""
        self._here.record_failure(failure, log, kept)
        self._failures.pop(failure.key, None)
        artifacts.upload_failure(self.objects, failure.key, self.root / "failed")

    def keep_log(self, key: str, log: Path | None) -> None:
        """Keep the log of a step that did not end well."""
        self._here.keep_log(key, log)
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
