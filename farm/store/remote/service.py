"""The objects of S3, Google Cloud Storage or Azure, by the package obstore."""

from __future__ import annotations

import errno
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from farm.errors import InputError
from farm.files import jsonfile
from farm.store.objects import Entry, Unreachable
from farm.store.remote.reasons import is_missing_bucket, is_passing, reason_of

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

_PART = 8 << 20
"""Bytes of a part of an upload, and of a piece of a download."""

_MOST_NAMES = 1000
"""Names in one answer to a listing, and in one request to delete them, as S3 has them."""

_UNKNOWN = re.compile(r"status code: 501|NotImplemented")
"""What services answer that do not know conditions."""

_TRIES = 5
_AGAIN_S = 30.0
"""A request whose connection is cut is made so often at least, and for so many seconds."""

_PAUSE_S = 0.2
_LONGEST_S = 5.0
"""The pause before it is made again, which doubles each time, up to the second of these."""


class _Tries:
    """Says whether a request is made once more."""

    def __init__(self) -> None:
        self._began, self._count = time.monotonic(), 0

    def wait(self, error: Unreachable) -> None:
        """Wait before the next try. Raises the error where there is none."""
        self._count += 1
        over = self._count >= _TRIES and time.monotonic() - self._began >= _AGAIN_S
        if over or not error.passing:
            raise error
        time.sleep(min(_PAUSE_S * 2 ** (self._count - 1), _LONGEST_S))


class ObstoreObjects:
    """The objects below an address, of any service that obstore knows; see `Objects`.

    open: makes obstore's own store, hurried or not. Neither this nor what it raises holds
    credentials.
    """

    def __init__(self, url: str, open: Callable[[bool], Any]) -> None:
        self.url = url
        self._hurried, self._store = open(True), open(False)
        self._conditions: bool | None = None

    def require_reachable(self) -> None:
        """Ask the service once, in a hurry.

        Raises:
            InputError: it cannot be reached, there is no such bucket, or no right to list it.
        """
        try:
            with self._errors():
                next(iter(self._hurried.list(chunk_size=1)), None)
        except OSError as error:
            raise InputError(error.strerror or str(error), self.url) from None

    def get(self, name: str) -> bytes:
        """Return the content of a small object. Raises ValueError for one that is not small."""

        def got() -> bytes | None:
            found = self._store.get(name)
            return bytes(found.bytes()) if found.meta["size"] <= jsonfile.MOST_BYTES else None

        content = self._tried(got, name)
        if content is None:
            raise ValueError(f"larger than {jsonfile.MOST_BYTES} bytes")
        return content

    def put(self, name: str, content: bytes | Path) -> str:
        """Put bytes, or the content of a file, in place of what is there; return the tag."""
        return _tag(self._tried(lambda: self._store.put(name, content, chunk_size=_PART)))

    def put_if_absent(self, name: str, content: bytes) -> str | None:
        """Put an object unless there is one; return the new one's tag, None if there is one."""
        return self._tried(lambda: self._put_on(name, content, "create"))

    def replace(self, name: str, content: bytes, tag: str) -> str | None:
        """Put an object in place of the one with this tag; None if it has another by now."""
        e_tag, _, version = tag.partition(" ")
        known = {"e_tag": e_tag, "version": version}
        mode = {part: one for part, one in known.items() if one}
        return self._tried(lambda: self._put_on(name, content, mode))

    def _put_on(self, name: str, content: bytes, mode: Any) -> str | None:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        failed: Exception | None = None
        try:
            return _tag(self._store.put(name, content, mode=mode, use_multipart=False))
        except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
            if is_missing_bucket(str(error)):
                raise
        except BaseError as error:
            failed = error
        # It may have been put all the same, by an attempt of which the answer was lost.
        try:
            found = self._store.get(name)
            if bytes(found.bytes()) == content:
                return _tag(found.meta)
        except FileNotFoundError:
            pass
        if failed is not None:
            raise failed
        return None

    def download(self, name: str, path: Path) -> str:
        """Write an object to a new file, and return the sha256 of what was written.

        Where the connection is cut, the rest of the same content is asked for.
        """
        total, tag, tries = hashlib.sha256(), None, _Tries()
        with path.open("xb") as file:
            while True:
                begun = file.tell()
                try:
                    with self._errors(name):
                        options = {"range": {"offset": begun}, "if_match": tag} if tag else None
                        answer = self._store.get(name, options=options)
                        tag = tag or answer.meta["e_tag"]
                        for piece in answer.stream(min_chunk_size=_PART):
                            file.write(piece)
                            total.update(piece)
                    return total.hexdigest()
                except Unreachable as error:
                    tries = _Tries() if file.tell() > begun else tries
                    tries.wait(error)

    def entry(self, name: str) -> Entry:
        """Return what a listing says of one object."""
        found = self._tried(lambda: self._store.head(name), name)
        return Entry(name, *astuple(_entry(found))[1:])  # obstore 0.11 has the whole path there

    def listed(self, folder: str) -> Iterator[Entry]:
        """Yield the objects whose names begin with `folder/`, in no order."""
        seen, tries = set[str](), _Tries()
        while True:
            try:
                with self._errors():
                    for page in self._store.list(folder or None, chunk_size=_MOST_NAMES):
                        new = [one for one in map(_entry, page) if one.name not in seen]
                        seen.update(one.name for one in new)
                        yield from new
                    return
            except Unreachable as error:
                tries.wait(error)

    def delete(self, names: Collection[str]) -> None:
        """Delete objects; those that are not there are passed over."""
        waiting = list(names)
        for begin in range(0, len(waiting), _MOST_NAMES):
            part = waiting[begin : begin + _MOST_NAMES]
            with suppress(FileNotFoundError):  # of services that say so; the others are deleted
                self._tried(partial(self._store.delete, part))

    def has_conditions(self, name: str) -> bool:
        """Return whether the service keeps conditions on a put, by trying them once."""
        if self._conditions is None:
            self._conditions = self._tried(lambda: self._keeps_conditions(name))
        return self._conditions

    def _keeps_conditions(self, name: str) -> bool:
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        def refused(mode: Any) -> bool:
            try:
                self._store.put(name, secrets.token_bytes(8), mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return True
            except BaseError as error:
                if _UNKNOWN.search(str(error)):
                    return False
                raise
            return False

        try:
            old = self._store.put(name, b"1")
            self._store.put(name, b"2")
            return refused("create") and refused({part: one for part, one in old.items() if one})
        finally:
            self._store.delete([name])

    def _tried(self, call: Callable[[], T], name: str = "") -> T:
        """Make a request, and again where its connection fails: obstore repeats only what has no
        answer yet, and only where it is sure that nothing was done."""
        tries = _Tries()
        while True:
            try:
                with self._errors(name):
                    return call()
            except Unreachable as error:
                tries.wait(error)

    @contextmanager
    def _errors(self, name: str = "") -> Iterator[None]:
        """Turn obstore's errors into the farm's, without their texts: those may hold secrets."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if is_missing_bucket(str(error)):
                raise Unreachable(self.url, reason_of(error, self.url)) from None
            raise FileNotFoundError(errno.ENOENT, "no such object", f"{self.url}/{name}") from None
        except (BaseError, ValueError, PermissionError) as error:
            reason = reason_of(error, self.url)
            raise Unreachable(self.url, reason, is_passing(error, self.url)) from None


def _tag(found: Mapping[str, Any]) -> str:
    return f"{found.get('e_tag') or ''} {found.get('version') or ''}"


def _entry(found: Mapping[str, Any]) -> Entry:
    return Entry(found["path"], found["size"], found["last_modified"].timestamp(), _tag(found))
