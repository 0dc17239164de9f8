"""Write files atomically: under another name first, then renamed, so that none is ever partial."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to, in the folder of `path`; it replaces `path` when the block ends.

    durable: sync the content to the disk before the rename, so that even a power failure leaves the
    old file or the new one, and never an empty one.

    Raises:
        OSError: the file cannot be written. `path` is unchanged then, as after any exception in
            the block.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex[:8]}.part")
    try:
        yield part
        if durable:
            sync(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def write(path: Path, content: bytes | str, durable: bool = True, private: bool = False) -> None:
    """Write a file by `replacing`. private: only its owner can ever read it.

    Raises:
        OSError: the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, durable) as part:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(part, flags, 0o600 if private else 0o666), "wb") as file:
            file.write(data)


def sync(path: Path) -> None:
    """Sync a file's content, or a folder's entries, to the disk.

    Raises:
        OSError: it cannot be opened or synced.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
