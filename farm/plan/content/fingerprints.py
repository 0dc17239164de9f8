"""The present state of one thing that a model may be made of, as a short text or a digest."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

from farm.plan.content import digests
from farm.plan.content.code import find_nested_spec

MISSING = "missing"
SIZE = " bytes"
"""The end of a text that gives the size of a file alone."""


def content(path: Path) -> str:
    """Return the sha256 of a file; 'missing' where there is none, 'no file' for a pipe."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "no file"
        return digests.of_file(path)
    except (OSError, ValueError):
        return MISSING


def folder(path: Path) -> str:
    """Return a digest of the names in a folder, folders marked, without `__pycache__`."""
    try:
        with os.scandir(path) as found:
            names = sorted(one.name + "/" * one.is_dir() for one in found)
    except (OSError, ValueError):
        return MISSING
    names = [name for name in names if name != "__pycache__/"]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def existence(path: Path, by_size: bool = False) -> str:
    """Return the state of a path whose existence was tested.

    The content of a file counts: a library may open it where Python cannot see that. by_size: its
    size counts instead.
    """
    if os.path.isdir(path):
        return "folder"
    if by_size and os.path.isfile(path):
        return f"{os.path.getsize(path)}{SIZE}"
    return content(path)


def link(path: Path, by_size: bool = False) -> str:
    """Return where a link leads; for anything else its state as of `existence`."""
    try:
        return f"link to {os.readlink(path)}"
    except (OSError, ValueError):
        return existence(path, by_size)


def importable(name: str, folder: Path | None) -> str:
    """Return the state of a module: 'missing' where Python finds none of this name.

    folder: where to look in place of Python's path.
    """
    spec = find_nested_spec(name, folder)
    if spec is None:
        return MISSING
    return content(Path(spec.origin)) if spec.has_location and spec.origin else "found"


def variable(value: bytes | None) -> str:
    """Return a digest of a variable's value, which itself is not recorded: it may be a secret."""
    return "not set" if value is None else hashlib.sha256(value).hexdigest()
