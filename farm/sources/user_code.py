"""Distinguishes the user's code from installed packages, and imports it without old bytecode."""

from __future__ import annotations

import importlib._bootstrap_external
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

FARM = str(Path(__file__).resolve().parents[1])

Origin = Literal["farm", "python", "installed", "import", "text", "own"]
"""own: the user's code. import: Python's import machinery. text: code run by `exec` or generated
by a library, whose origin is that of its caller."""

_PACKAGES = ("site-packages", "dist-packages")

_machinery: Any = importlib._bootstrap_external


def installed_folders() -> tuple[str, ...]:
    """Return the folders in which packages are installed."""
    return _installed_folders(tuple(sys.path))


@cache
def _installed_folders(search_path: tuple[str, ...]) -> tuple[str, ...]:
    known = [*site.getsitepackages(), site.getusersitepackages()]
    known += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    known += [path for path in search_path if os.path.basename(path) in _PACKAGES]
    return _both(known)


@cache
def _python_folders() -> tuple[str, ...]:
    return _both([sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")])


def _both(paths: list[str]) -> tuple[str, ...]:
    """The paths as given, and with symbolic links resolved."""
    return tuple(dict.fromkeys(p for path in paths for p in (path, os.path.realpath(path))))


def inside(path: str, folders: tuple[str, ...]) -> bool:
    """Return whether the path is inside one of the folders."""
    return any(path.startswith(f"{folder}/") for folder in folders)


@cache
def origin(path: str) -> Origin:
    """Return the origin of the code in a file, by the file name of its code object."""
    if path.startswith("<frozen importlib"):
        return "import"
    if path.startswith("<"):
        return "python" if path.startswith("<frozen") else "text"
    if inside(path, (FARM,)):
        return "farm"
    if inside(path, installed_folders()):
        return "installed"
    return "python" if inside(path, _python_folders()) else "own"


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore existing bytecode of the user's code in the block or the decorated function.

    Libraries keep theirs: torch alone loads hundreds of modules when the first model is built.
    """
    real = _machinery.cache_from_source

    def place(source: str, *rest: object, **named: object) -> str:
        """The bytecode's path of a source; for Python, NotImplementedError means there is none."""
        if origin(source) == "own":
            raise NotImplementedError
        found: str = real(source, *rest, **named)
        return found

    _machinery.cache_from_source = place
    try:
        yield
    finally:
        _machinery.cache_from_source = real
