"""Require before any work that a command can write its files and folders."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from farm.errors import InputError
from farm.files import expanded


def file(name: str, option: str, read: Iterable[str | Path | None] = ()) -> Path:
    """Return the path of a file to write, and make its folder.

    option: the option that names the file. read: the files that the command reads, which it must
    not overwrite.

    Raises:
        InputError: it cannot be written, or is one of `read`.
    """
    path = expanded(
        name, Path.cwd()
    ).resolve()  # write the file of a link, and do not replace the link
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
    """Make a folder to write into, and return its path.

    Raises:
        InputError: it cannot be made or written.
    """
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
