"""Paths as Python's functions and modules have them."""

from __future__ import annotations

import importlib.util
import os
import stat
from types import ModuleType


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
