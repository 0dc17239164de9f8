"""What a command writes: told before any work where it cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from farm.errors import InputError
from farm.plan.files import expanded


def file(name: str, option: str, read: Iterable[str | Path | None] = ()) -> Path:
    """A file that can be written: its folder is made now. Raises InputError before any work.

    read: the files that the command reads, which must not be written over.
    """
    path = expanded(name, Path.cwd()).resolve()  # a link's file is written, not the link
    if path.is_dir() or name.endswith("/"):
        raise InputError(f"{name!r} is a folder; give a file", option)
    if path.exists() and not path.is_file():
        raise InputError(f"{name!r} is a device or a pipe; give a file", option)
    if path.exists() and any(one is not None and path.samefile(one) for one in read):
        raise InputError(f"{name!r} is read by this command; give another file", option)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: {error.strerror}", option) from None
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path.parent}: no right to write there", option)
    return path


def folder(name: str, option: str) -> Path:
    """A folder to write into, made now. Raises InputError."""
    path = expanded(name, Path.cwd())
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{name!r} is a file; give a folder", option) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", option) from None
    if not os.access(path, os.W_OK):
        raise InputError(f"{path}: no right to write there", option)
    return path
