"""Objects of a service such as S3, by name: what the farm asks of it, whatever the service."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_MOST_AT_ONCE = 16
"""Requests that are made at the same time where there are many: most of each is waiting."""


class Unreachable(OSError):
    """A service did not do what it was asked, perhaps after several tries; says why.

    passing: its connection or the service has failed, so that another try may succeed.
    """

    def __init__(self, url: str, reason: str, passing: bool = False) -> None:
        super().__init__(errno.EIO, reason, url)
        self.passing = passing


@dataclass(frozen=True)
class Entry:
    """An object in a listing. modified: in seconds since 1970, by the clock of the service. tag:
    changes with its content."""

    name: str
    size: int
    modified: float
    tag: str


class Objects(Protocol):
    """The objects whose names begin with one address, as `s3://bucket/path`. Names are relative to
    it, with `/` between their parts.

    Every method raises FileNotFoundError for an object that is not there, and Unreachable for
    whatever else the service refuses or fails at.
    """

    @property
    def url(self) -> str:
        """Return the address, without a slash at its end."""
        ...

    def require_reachable(self) -> None:
        """Ask the service once, in a hurry. Raises InputError where it cannot be used."""
        ...

    def get(self, name: str) -> bytes:
        """Return the content of a small object. Raises ValueError for one that is not small."""
        ...

    def put(self, name: str, content: bytes | Path) -> str:
        """Put bytes, or the content of a file, in place of what is there; return the tag."""
        ...

    def put_if_absent(self, name: str, content: bytes) -> str | None:
        """Put an object unless there is one; return the new one's tag, None if there is one.

        The content has to be one that nobody else puts: an attempt whose answer was lost is
        recognised by it.
        """
        ...

    def replace(self, name: str, content: bytes, tag: str) -> str | None:
        """Put an object in place of the one with this tag; return the new tag, None if it has
        another by now. The content as for `put_if_absent`."""
        ...

    def download(self, name: str, path: Path) -> str:
        """Write an object to a new file, and return the sha256 of what was written."""
        ...

    def entry(self, name: str) -> Entry:
        """Return what a listing says of one object."""
        ...

    def listed(self, folder: str) -> Iterator[Entry]:
        """Yield the objects whose names begin with `folder/`, in no order."""
        ...

    def delete(self, names: Collection[str]) -> None:
        """Delete objects; those that are not there are passed over."""
        ...

    def has_conditions(self, name: str) -> bool:
        """Return whether `put_if_absent` and `replace` keep what they promise, by trying them on a
        new object of this name."""
        ...


def is_url(place: str) -> bool:
    """Return whether a place is the address of a service, not a path."""
    return _URL.match(place) is not None


def at_once(function: Callable[[T], R], values: Iterable[T]) -> list[R]:
    """Return what the function returns for each value, calling it for several at the same time."""
    values = list(values)
    if len(values) < 2:
        return [function(value) for value in values]
    pool = ThreadPoolExecutor(_MOST_AT_ONCE, "objects")
    try:
        others = pool.map(function, values[1:])
        return [function(values[0]), *others]  # in this thread, which would only wait
    finally:
        pool.shutdown(cancel_futures=True)
