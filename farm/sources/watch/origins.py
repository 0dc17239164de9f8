"""Whose code a file or a caller is: the user's, or an installed package's; and its path."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import stat
import sys
from collections.abc import Collection, Iterator
from functools import cache
from types import FrameType, ModuleType

from farm.plan import packages
from farm.sources import user_code

_IMPORTS_FOR_A_CONFIG = "import_modules_from_strings"
"""mmcv's function that imports what `custom_imports` names."""


def asked_by_user(imports_too: bool, everything: bool) -> bool:
    """Whether the user's code is among the callers, up to the farm's own.

    imports_too: also where it only imports a package whose own code then runs. everything: all
    that the farm calls is the user's, wherever it is installed.
    """
    for frame in _callers():
        kind = user_code.origin(frame.f_code.co_filename)
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
    return next((user_code.origin(f.f_code.co_filename) for f in _callers()), "farm") == "import"


def code_of(names: Collection[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The folders of these packages, and the files in them that were installed."""
    roots, listed = [], set[str]()
    for name in names:
        if dist := packages.distribution(name):
            roots += [str(place) for place in packages.code_places(dist)]
            root = str(dist.locate_file("")).rstrip("/")
            listed |= {f"{root}/{one}" for one, _ in packages.listed_code(dist)}
    return tuple(roots), frozenset(listed)


def packages_of(path: str) -> tuple[str, ...]:
    """The installed packages that bring the file's top-level module; none for one that nobody
    installed."""
    return tuple(dict.fromkeys(_by_module().get(_top(path), ())))


def _top(path: str) -> str:
    """The top-level module of an installed file."""
    for folder in user_code.installed_folders():
        if path.startswith(f"{folder}/"):
            return path[len(folder) + 1 :].partition("/")[0].partition(".")[0]
    return ""


@cache
def _by_module() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


def absolute(asked: object) -> str | None:
    """Absolute, as text; None for a descriptor, or what is no path."""
    if not asked or not isinstance(asked, str | bytes | os.PathLike):
        return None
    return os.path.abspath(os.fsdecode(asked))


def is_relative(asked: object) -> bool:
    """Whether what was asked for depends on the folder that the process is in."""
    return isinstance(asked, str | bytes | os.PathLike) and not os.path.isabs(os.fsdecode(asked))


def current() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def source(path: str) -> str:
    """Compiled code stands for its source."""
    if not path.endswith(".pyc"):
        return path
    try:
        return importlib.util.source_from_cache(path)
    except ValueError:
        return path


def of_module(module: ModuleType) -> str | None:
    path = getattr(module, "__file__", None)
    if not isinstance(path, str):
        return None
    path = os.path.abspath(path)
    regular = os.path.exists(path) and stat.S_ISREG(os.stat(path).st_mode)
    return path if regular else None
