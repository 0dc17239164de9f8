"""Tells whether a file or a caller belongs to the user or to an installed package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import stat
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from types import FrameType, ModuleType

from farm.plan.content import packages
from farm.sources import user_code

_MACHINE = ("/proc", "/sys", "/dev")

_IMPORTS_FOR_A_CONFIG = "import_modules_from_strings"
"""mmcv's function that imports what `custom_imports` names."""


class User:
    """Tells what is the user's while one model is watched: the code that asks, and files.

    in_key: packages whose versions are in the key. everything: treat all code that the farm calls
    as the user's, wherever it is installed.
    """

    def __init__(self, in_key: Collection[str], everything: bool) -> None:
        self._roots, self._listed = code_of(in_key)
        self._everything = everything
        self._written: set[str] = set()

    def asks(self, imports_too: bool = True) -> bool:
        """Return whether the user's code is among the callers, up to the farm's own frames.

        imports_too: count code that only imports a package whose own code then runs, too.
        """
        for frame in _callers():
            kind = user_code.origin(frame.f_code.co_filename)
            if kind == "farm":
                return self._everything
            if kind == "own" or frame.f_code.co_name == _IMPORTS_FOR_A_CONFIG:
                return True
            if kind == "import" and not imports_too:
                return False
        return False

    def owns(self, path: str) -> bool:
        """Return whether a file is the user's.

        Files of Python, of the farm, of the system and of packages with a version are not, nor are
        files that the code itself wrote.
        """
        if self.added_to_package(path):
            return True
        if is_of_machine(path) or self.has_in_key(path):
            return False
        return user_code.origin(path) in ("own", "text") and not self.wrote(path)

    def added_to_package(self, path: str) -> bool:
        """Return whether a file was added to the folder of a package that is in the key."""
        if path in self._listed or not self.has_in_key(path):
            return False
        if not user_code.inside(path, user_code.installed_folders()):
            return False  # a checkout, whose digest is in the key
        return path.endswith(".py") or self.asks()

    def has_in_key(self, path: str) -> bool:
        """Return whether a file is in a folder of a package that is in the key."""
        return user_code.inside(path, self._roots)

    def wrote(self, path: str) -> bool:
        """Return whether the model's code wrote a file, or a folder that it is in."""
        real = Path(os.path.realpath(path))
        return str(real) in self._written or any(str(p) in self._written for p in real.parents)

    def made(self, path: str) -> None:
        """Note a file that the model's code wrote: its content follows from the other inputs."""
        self._written.add(os.path.realpath(path))

    def moved(self, before: str, after: str) -> None:
        """Note that a file was renamed, for files that the model's code wrote."""
        if self.wrote(before):
            self.made(after)


def _callers() -> Iterator[FrameType]:
    """Yields the frames from the innermost outwards, without those of this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not _is_of_this_package(frame.f_code.co_filename):
            yield frame
        frame = frame.f_back


@cache
def _is_of_this_package(path: str) -> bool:
    return os.path.dirname(path) == os.path.dirname(__file__)


def asked_by_import() -> bool:
    """Return whether the caller is Python's import machinery."""
    return next((user_code.origin(f.f_code.co_filename) for f in _callers()), "farm") == "import"


def code_of(names: Collection[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the folders of these packages, and the installed files in them."""
    roots, listed = [], set[str]()
    for name in names:
        if dist := packages.distribution(name):
            roots += [str(place) for place in packages.code_places(dist)]
            root = str(dist.locate_file("")).rstrip("/")
            listed |= {f"{root}/{one}" for one, _ in packages.listed_code(dist)}
    return tuple(roots), frozenset(listed)


def packages_of(path: str) -> tuple[str, ...]:
    """Return the installed packages that provide the file's top-level module, if any."""
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


def is_of_machine(path: str) -> bool:
    """Return whether a file tells of the machine and not of the model, as those in /proc do."""
    return user_code.inside(path, _MACHINE)


def absolute(asked: object) -> str | None:
    """Return the absolute path as text; None for a file descriptor or a value that is no path."""
    if not asked or not isinstance(asked, str | bytes | os.PathLike):
        return None
    return os.path.abspath(os.fsdecode(asked))


def is_relative(asked: object) -> bool:
    """Return whether a path depends on the process's current folder."""
    return isinstance(asked, str | bytes | os.PathLike) and not os.path.isabs(os.fsdecode(asked))


def current() -> str:
    """Return the current folder; empty if it was removed."""
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def source(path: str) -> str:
    """Return the source file of compiled code, or the path itself."""
    if not path.endswith(".pyc"):
        return path
    try:
        return importlib.util.source_from_cache(path)
    except ValueError:
        return path


def of_module(module: ModuleType) -> str | None:
    """Return the source file of a module; None for a module without one."""
    path = getattr(module, "__file__", None)
    if not isinstance(path, str):
        return None
    path = os.path.abspath(path)
    regular = os.path.exists(path) and stat.S_ISREG(os.stat(path).st_mode)
    return path if regular else None
