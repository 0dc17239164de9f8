"""Unpack the artifacts of a pack into a store, each file checked against `pack.json`."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from farm.errors import InputError
from farm.files import jsonfile
from farm.offline import contents
from farm.offline.archive.members import Limits, Member, Refused, extract_member
from farm.offline.archive.reading import errors_named, members
from farm.offline.contents import Pack
from farm.specs import Ref
from farm.store import Store

log = logging.getLogger(__name__)

LIMITS = Limits(files=100_000, file=4 << 30, total=64 << 30)
"""Room for the files of many models, in every precision and shape."""

_KIND = "a pack"


def unpack(parts: Sequence[Path], store: Store) -> Pack:
    """Read a pack, and move its artifacts into the store unless they are there already.

    parts: the files of the archive, in order.

    Raises:
        InputError: the pack is damaged or has a file that is refused; the store is as it was.
    """
    found = members(parts[0], LIMITS, _KIND, parts)
    pack = _description(found, parts[0])
    if all(_has(store, pack, ref) for ref in pack.carried):
        log.debug(f"{parts[0]}: the store {store.root} has all of its artifacts")
        return pack
    with _scratch(store) as folder:
        _extract(found, pack, folder, parts[0])
        for ref in pack.carried:
            if Store(folder / "store").any_record(ref) is None:
                raise InputError(
                    f"incomplete: {ref.stage} {ref.key[:12]} has no record", str(parts[0])
                )
        for ref in pack.carried:
            if not _has(store, pack, ref):
                _move(Store(folder / "store").path(ref), store.path(ref))
    return pack


def _description(found: Iterator[Member], archive: Path) -> Pack:
    member = next(found, None)
    if member is None or member.name != contents.NAME or member.size > jsonfile.MOST_BYTES:
        reason = f"damaged, or not a pack: its first file is not {contents.NAME}"
        raise InputError(f"{reason}; `farm pack MATRIX` makes one", str(archive))
    with errors_named(archive, _KIND):
        data = member.content.read(member.size)
    return contents.parse(data, str(archive))


def _has(store: Store, pack: Pack, ref: Ref) -> bool:
    """Return whether the store has the artifact unaltered, with all files of it in the pack."""
    folder = store.path(ref)
    prefix = f"store/{folder.relative_to(store.root).as_posix()}/"
    own = (name.removeprefix(prefix) for name in pack.files if name.startswith(prefix))
    return not store.altered(ref) and all((folder / name).is_file() for name in own)


@contextmanager
def _scratch(store: Store) -> Iterator[Path]:
    """Yield a folder on the store's file system, which is removed afterwards."""
    folder = store.work_folder("pack")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _extract(found: Iterator[Member], pack: Pack, folder: Path, archive: Path) -> None:
    """Write the files that `pack.json` lists. Raises InputError for a missing or another file."""
    missing = dict(pack.files)
    for member in found:
        with errors_named(archive, _KIND):
            known = missing.pop(member.name, None)
            if known is None:
                raise Refused(f"{member.name!r} is unexpected: {contents.NAME} does not list it")
            if member.size != known.size:
                raise Refused(f"{member.name!r} has {member.size} bytes, expected {known.size}")
            content = _Hashed(member.content)
            extract_member(Member(member.name, member.size, cast("IO[bytes]", content)), folder)
            if content.digest != known.digest:
                raise Refused(
                    f"{member.name!r} is changed: its sha256 is not the one that is stated"
                )
    log.debug(f"{archive}: {len(pack.files) - len(missing)} of {len(pack.files)} files unpacked")
    if missing:
        raise InputError(
            f"incomplete: {min(missing)!r} is missing; copy it here again", str(archive)
        )


class _Hashed:
    """A stream that computes the sha256 of what is read from it."""

    def __init__(self, content: Any) -> None:
        self._content, self._sha = content, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data: bytes = self._content.read(size)
        self._sha.update(data)
        return data

    @property
    def digest(self) -> str:
        return self._sha.hexdigest()


def _move(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)  # damaged, or without its large files
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
