"""Store: content-addressed artifacts. A step is done as soon as its folder has its final name.

    <root>/<stage>/<first two digits of key>/<key>/record.json   a finished step and its files
                                             .../checked.json    which of them were compared
    <root>/failed/<key>.json, .log                               a failure that will repeat itself
    <root>/tmp/<key>.<host>.<pid>.<time>/                        a running step
    <root>/elsewhere/<digest>/                                   imported records; see `imports`

A folder gets its final name by one rename, so a killed process leaves no partial artifact.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from farm.errors import AlteredArtifact, InputError
from farm.files import atomic
from farm.specs import Ref
from farm.store import integrity
from farm.store.integrity import LOG, RECORD, Alteration
from farm.store.place import Place
from farm.store.records import (
    Failure,
    Record,
    as_json,
    read_failure,
    read_record,
    warm_up,
)

__all__ = [
    "Alteration",
    "Failure",
    "Record",
    "Store",
    "as_json",
    "read_failure",
    "read_record",
    "warm_up",
]

log = logging.getLogger(__name__)


class Store(Place):
    """A folder of artifacts, shared by every node of the sweep."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().resolve()

    def record(self, ref: Ref) -> Record | None:
        """Return the record of a step that was done here, else None.

        Only the record and the sizes of its files are compared; `altered` reads the files. It is
        None, too, if the record was changed or has no digests, since an earlier version made it.
        """
        record = self.any_record(ref)
        return record if record and not record.foreign else None

    def any_record(self, ref: Ref) -> Record | None:
        """Return the record as `record` does, also of a step that was done on another machine.

        Those that earlier versions imported have no digests.
        """
        folder = self.path(ref)
        try:
            record = read_record(folder / RECORD)
            complete = (record.stage, record.key) == (ref.stage, ref.key) and all(
                (folder / name).stat().st_size == size for name, size in record.files.items()
            )
        except (OSError, ValueError, InputError):
            return None
        return record if complete and (record.has_digests or record.foreign) else None

    def altered(self, ref: Ref, anew: bool = False) -> list[Alteration]:
        """Return what of an artifact is not as its step left it; nothing if it is whole.

        A file that was found unaltered is not read again while its size, inode and times stay.

        anew: read every file all the same.

        Raises:
            OSError: a file cannot be read, for another reason than that it is not there.
        """
        return self.compared(ref, anew)[1]

    def whole_file(self, ref: Ref, name: str) -> Path:
        """Return the path of a file of an artifact, which is as its step left it.

        Raises:
            AlteredArtifact: something of the artifact is not, or it is not there.
            OSError: it has no such file, or that cannot be had.
        """
        if found := self.altered(ref):
            raise AlteredArtifact(ref, integrity.listed(found))
        return self.path(ref) / name

    def compared(self, ref: Ref, anew: bool = False) -> tuple[Record | None, list[Alteration]]:
        """Return the record, if that is as the step left it, and what `altered` returns."""
        folder = self.path(ref)
        try:
            record = read_record(folder / RECORD)
        except (FileNotFoundError, NotADirectoryError):
            return None, [Alteration(RECORD, "missing")]
        except (ValueError, InputError):
            return None, [Alteration(RECORD, "altered")]
        if (record.stage, record.key) != (ref.stage, ref.key):
            return None, [Alteration(RECORD, "that of another step")]
        if not record.has_digests and (record.digest or not record.foreign):
            return None, [Alteration(RECORD, "without digests, as earlier versions wrote it")]
        return record, integrity.altered(folder, record, anew)

    def require_whole(self, ref: Ref) -> Record:
        """Return the record of an artifact that a step reads, which must be as its step left it.

        One that is not is removed, so that its step can run again.

        Raises:
            AlteredArtifact: it is not whole, or not there any more.
            OSError: it cannot be read.
        """
        record, found = self.compared(ref)
        if found:  # perhaps in an artifact that another step has removed and that is made by now
            record, found = self.compared(ref)
        if found or record is None:
            self.discard(ref, integrity.listed(found))
            raise AlteredArtifact(ref, integrity.listed(found))
        return record

    def discard(self, ref: Ref, reason: str) -> None:
        """Remove an artifact, and log the reason as a warning. Raises OSError."""
        if self.remove(ref):
            log.warning(f"{ref.stage} {ref.key[:12]}: {reason}; it is made anew")

    def remove(self, ref: Ref) -> bool:
        """Remove an artifact, so that its step counts as not done; return whether it was there.

        Raises:
            OSError: it cannot be removed.
        """
        integrity.forget(self.path(ref))
        if not self.path(ref).exists():
            return False  # another step has removed it
        folder = self.work_folder(ref.key)
        with suppress(FileNotFoundError):
            self.path(ref).rename(folder / "altered")  # at once, so that nobody sees a part of it
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def remove_all(self, refs: Mapping[Ref, Sequence[str]]) -> None:
        """Remove artifacts, as `remove`. refs: with the names of their files. Raises OSError."""
        for ref in refs:
            self.remove(ref)

    def drop(self, ref: Ref) -> None:
        """Forget what was read of a step: nothing here, see `CachedStore`."""

    def note(self, record: Record) -> None:
        """Keep the record that a step has just put: nothing here, see `Answers`."""

    def known(self, refs: Iterable[Ref]) -> dict[Ref, str]:
        """Return the digests of records that nodes need not ask for: none here, see `Answers`."""
        return {}

    def refs(self, stage: str) -> Iterator[Ref]:
        """Yield every finished step of a stage."""
        for path in sorted((self.root / stage).glob(f"*/*/{RECORD}")):
            yield Ref(stage, path.parent.name)

    def failure(self, key: str) -> Failure | None:
        """Return the recorded failure of a step; None if there is none, or its file is torn."""
        try:
            failure = read_failure(self.root / "failed" / f"{key}.json")
        except (OSError, ValueError, InputError):
            return None
        return failure if failure.key == key else None

    def log_path(self, ref: Ref) -> Path:
        """Return the path of the step's log, whether it ended well or not."""
        done = self.path(ref) / LOG
        return done if done.exists() else self.root / "failed" / f"{ref.key}.log"

    def publish(self, folder: Path, record: Record) -> None:
        """Make a working folder the artifact of its step. If another node was faster, its artifact
        stays.

        Nothing is synced to the disk: what a power failure leaves has other digests, and is made
        anew.

        Raises:
            ValueError: the record could not be read back.
            OSError: the artifact cannot be written.
        """
        digests = integrity.digests(folder)
        files = {name: os.stat(f"{folder}/{name}").st_size for name in digests}
        written = as_json(replace(record, files=files, digests=digests))
        (folder / RECORD).write_text(written)
        ref = Ref(record.stage, record.key)
        artifact = self.path(ref)
        artifact.parent.mkdir(parents=True, exist_ok=True)
        if artifact.exists() and self.record(ref) is None:
            shutil.rmtree(artifact, ignore_errors=True)  # it is torn
        try:
            folder.rename(artifact)
        except OSError:
            if self.record(ref) is None:
                raise
            shutil.rmtree(folder, ignore_errors=True)
        self._forget_all(record.key)

    def _forget_all(self, key: str) -> None:
        """Remove all that is kept of a step's failures, if there is any."""
        failed = f"{self.root}/failed"
        if any(os.path.exists(f"{failed}/{key}.{kind}") for kind in ("log", "json")):
            for name in os.listdir(failed):
                if name.startswith(f"{key}."):
                    Path(failed, name).unlink(missing_ok=True)

    def record_failure(self, failure: Failure, log: Path | None, kept: Sequence[Path] = ()) -> None:
        """Record a failure, with its log. Raises OSError.

        kept: files of the step's folder that explain the failure; see `failed_file`.
        """
        self.keep_log(failure.key, log)
        for path in kept:
            path.replace(self.failed_file(failure.key, path.name))
        path = self.root / "failed" / f"{failure.key}.json"
        atomic.write(path, json.dumps(asdict(failure), indent=1))

    def failed_file(self, key: str, name: str) -> Path:
        """Return the path of a file that was kept of a failed step."""
        return self.root / "failed" / f"{key}.{name}"

    def keep_log(self, key: str, log: Path | None) -> None:
        """Keep the log of a step that did not end well. Raises OSError."""
        path = self.root / "failed" / f"{key}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        if log and log.exists():
            log.replace(path)

    def forget(self, ref: Ref) -> None:
        """Delete a recorded failure, so that the step is tried again."""
        (self.root / "failed" / f"{ref.key}.json").unlink(missing_ok=True)
