"""Which installed package a file is of."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection
from functools import cache

from farm.plan import packages
from farm.sources import origin


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
    for folder in origin.installed_folders():
        if path.startswith(f"{folder}/"):
            return path[len(folder) + 1 :].partition("/")[0].partition(".")[0]
    return ""


@cache
def _by_module() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
