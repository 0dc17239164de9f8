"""What differs between a store in a folder, as here, and one in an object store; its version."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.files import jsonfile
from farm.specs import Ref
from farm.store.folder import FolderObjects
from farm.store.objects import Objects

if TYPE_CHECKING:
    from farm.store import Store

_FORMAT = "format.json"

VERSION = 1
"""The version of a store's layout and of its records, of all stores so far, also of those without
the file.

A record with a field that a farm does not know is no record to it, and would be made anew. So a
farm whose records or layout others cannot read raises it, and refuses stores of higher ones."""


def _format() -> bytes:
    """Return the content of the file."""
    return json.dumps({"version": VERSION}).encode()


def _requires_version(objects: Objects) -> bool:
    """Require a store to be of a version that this farm reads; return whether it states one.

    Raises:
        InputError: it is of a higher version, or the file is damaged.
        OSError: the file cannot be read, for another reason than that it is not there.
    """
    try:
        content = objects.get(_FORMAT)
    except FileNotFoundError:
        return False
    try:
        version = jsonfile.parse(content)["version"]
    except (ValueError, TypeError, KeyError):
        version = None
    if type(version) is not int or version < 1:
        raise InputError(
            f"{_FORMAT} states no version of a store; give other --results", objects.url
        )
    if version > VERSION:
        raise InputError(
            f"a store of a newer farm (version {version}; this one reads up to {VERSION}): update"
            " this farm, or give other --results",
            objects.url,
        )
    return True


IMPORTS = "elsewhere"
"""The folder of the imports, in that of a store."""

NONE_KNOWN: Mapping[Ref, str] = MappingProxyType({})
"""Where a driver knows no digests of records."""

NO_FILES: Mapping[str, Collection[str]] = MappingProxyType({})
"""Where no files are read."""

_KEY = re.compile("[0-9a-f]{64}")


class Place:
    """Where the artifacts of a store are. root: a folder of this machine, laid out as a store."""

    root: Path

    def path(self, ref: Ref) -> Path:
        """Return the folder of the step's artifact, which need not exist."""
        return Path(f"{self.root}/{ref.stage}/{ref.key[:2]}/{ref.key}")

    def work_folder(self, key: str) -> Path:
        """Make a folder for a running step, on the file system of the artifacts. Raises OSError."""
        mark = f"{key}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        folder = self.root / "tmp" / mark
        folder.mkdir(parents=True)
        return folder

    @property
    def address(self) -> str:
        """Return what `opening.open_store` opens the same store by, on any node."""
        return str(self.root)

    @property
    def objects(self) -> Objects:
        """Return the store's files, by name."""
        return FolderObjects(self.root)

    def learn(self, refs: Iterable[Ref], files: Mapping[str, Collection[str]] = NO_FILES) -> None:
        """Read what will be asked of these steps, and their files of these names by stage: nothing
        here, where each question is cheap; see `RemoteStore`."""

    def require_version(self, write: bool = False) -> None:
        """Require the store to be of a version that this farm reads; see `version`.

        write: state the version in a store that states none.

        Raises:
            InputError: it is of another.
            OSError: its file cannot be read or written.
        """
        if not _requires_version(self.objects) and write:
            self.objects.put(_FORMAT, _format())

    def exists(self) -> bool:
        """Return whether there is a store here."""
        return self.root.is_dir()

    def artifacts(self) -> Iterator[Ref]:
        """Yield every artifact, whole or not."""
        for path in sorted(self.root.glob("*/??/*")):
            if _KEY.fullmatch(path.name) and path.is_dir():
                yield Ref(path.parent.parent.name, path.name)

    def where(self, ref: Ref, name: str) -> str | None:
        """Return where a file or folder of an artifact lies: its path; None if it is not there."""
        path = self.path(ref) / name
        return str(path) if path.exists() else None

    def holds(self, ref: Ref) -> bool:
        """Return whether there is an artifact, whole or not."""
        return self.path(ref).exists()

    def files(self, ref: Ref) -> Path:
        """Return the folder of an artifact, with its files in it. Raises as `require_whole`, where
        the store is not on this disk."""
        return self.path(ref)

    @contextmanager
    def held(self, refs: Iterable[Ref]) -> Iterator[None]:
        """Keep the files of artifacts where `files` has found them, for the block."""
        yield

    def imports_folder(self) -> Path:
        """Return the folder of the imports, each under its digest; see `imports`."""
        return self.root / IMPORTS

    def put_import(self, name: str) -> None:
        """Keep an import that is complete in that folder: nothing here, see `RemoteStore`."""

    def remove_import(self, name: str) -> None:
        """Remove an import. Raises OSError."""
        if (place := self.root / IMPORTS / name).exists():
            folder = self.work_folder("import")
            place.rename(folder / "altered")
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def on_this_node(
        self, ref: Ref, reads: Iterable[Ref], known: Mapping[Ref, str] = NONE_KNOWN
    ) -> Iterator[Store]:
        """Yield the store in a folder of this node, in which a step runs that reads artifacts.

        known: the digests of their records, as far as the driver knows them.

        It is this one; what the step leaves in that of a `RemoteStore` is put when the block ends.
        """
        yield self  # type: ignore[misc]  # the one kind of place in a folder
