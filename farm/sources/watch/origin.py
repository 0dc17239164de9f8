"""Whose a file is, and whether the code that is running now is the user's."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Literal

FARM = str(Path(__file__).resolve().parents[2])

Origin = Literal["farm", "python", "installed", "import", "text", "own"]
"""own: the user's. import: Python's import machinery. text: code that `exec` was given, or that a
library makes, whose origin is that of its caller."""

_IMPORTS_FOR_A_CONFIG = "import_modules_from_strings"
"""mmcv's function that imports what `custom_imports` names."""


_PACKAGES = ("site-packages", "dist-packages")


def installed_folders() -> tuple[str, ...]:
    """Where packages are installed."""
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
    """With links followed, too."""
    return tuple(dict.fromkeys(p for path in paths for p in (path, os.path.realpath(path))))


def inside(path: str, folders: tuple[str, ...]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)


@cache
def origin(path: str) -> Origin:
    """Of the code in a file, by the name that Python gives it."""
    if path.startswith("<frozen importlib"):
        return "import"
    if path.startswith("<"):
        return "python" if path.startswith("<frozen") else "text"
    if inside(path, (FARM,)):
        return "farm"
    if inside(path, installed_folders()):
        return "installed"
    return "python" if inside(path, _python_folders()) else "own"


def asked_by_user(imports_too: bool, everything: bool) -> bool:
    """Whether the user's code is among the callers, up to the farm's own.

    imports_too: also where it only imports a package whose own code then runs. everything: all
    that the farm calls is the user's, wherever it is installed.
    """
    for frame in _callers():
        kind = origin(frame.f_code.co_filename)
        if kind == "farm":
            return everything
        if kind == "own" or frame.f_code.co_name == _IMPORTS_FOR_A_CONFIG:
            return True
        if kind == "import" and not imports_too:
            return False
    return False


def _callers() -> Iterator[FrameType]:
    """From the innermost outwards, without this package's own."""
    frame: FrameType | None = sys._getframe(1)
    here = os.path.dirname(__file__)
    while frame is not None:
        if os.path.dirname(frame.f_code.co_filename) != here:
            yield frame
        frame = frame.f_back


def asked_by_import() -> bool:
    """Whether it is the import machinery that asks, on whoever's behalf."""
    return next((origin(f.f_code.co_filename) for f in _callers()), "farm") == "import"
