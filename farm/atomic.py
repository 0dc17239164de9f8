"""Files written whole or not at all: beside their place first, then put there by one rename."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` to write into; it replaces `path` when the block ends well.

    durable: the content is on the disk before the rename, so that a power cut leaves the old file
    or the new one, and never an empty one. Without it only a killed process is harmless.

    Raises OSError; nothing is then left beside `path`, and `path` is as it was.
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
    """Write a file by `replacing`. private: readable by its owner alone, from the first byte on."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, durable) as part:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(part, flags, 0o600 if private else 0o666), "wb") as file:
            file.write(data)


def sync(path: Path) -> None:
    """Force a file's content, or a folder's entries, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
