"""How one thing that a model may be made of is at this moment: digests of it, as short texts."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

from farm.plan import digests
from farm.plan.code import sought

MISSING = "missing"
SIZE = " bytes"
"""At the end of what says of a file its size alone."""


def content(path: Path) -> str:
    """sha256 of a file; what is no file to be read is 'missing' or says what it is instead."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "no file"
        return digests.of_file(path)
    except (OSError, ValueError):
        return MISSING


def folder(path: Path) -> str:
    """Of the names in it, folders marked, but for what Python itself puts there."""
    try:
        with os.scandir(path) as found:
            names = sorted(one.name + "/" * one.is_dir() for one in found)
    except (OSError, ValueError):
        return MISSING
    names = [name for name in names if name != "__pycache__/"]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def existence(path: Path, by_size: bool = False) -> str:
    """A file that code only asks for may be what a library opens natively: so its content counts.

    by_size: its size alone does.
    """
    if os.path.isdir(path):
        return "folder"
    if by_size and os.path.isfile(path):
        return f"{os.path.getsize(path)}{SIZE}"
    return content(path)


def link(path: Path, by_size: bool = False) -> str:
    """Where a link leads, which may be to another copy of the same; of all else what it is."""
    try:
        return f"link to {os.readlink(path)}"
    except (OSError, ValueError):
        return existence(path, by_size)


def importable(name: str, folder: Path | None) -> str:
    """Of a module: 'missing' where Python finds none of this name. folder: the one to look in."""
    spec = sought(name, folder)
    if spec is None:
        return MISSING
    return content(Path(spec.origin)) if spec.has_location and spec.origin else "found"


def variable(value: bytes | None) -> str:
    """No value is written down: some are secrets."""
    return "not set" if value is None else hashlib.sha256(value).hexdigest()
