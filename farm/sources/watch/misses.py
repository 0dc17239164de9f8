"""Modules and packages that Python looks for in vain: they may be there tomorrow."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from types import ModuleType

from farm.sources.watch.patches import quietly
from farm.sources.watch.seen import Seen


class _Last(MetaPathFinder):
    """Is asked for what no finder before it knows, and does not know it either."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        quietly(self._seen.no_module, name, path)
        return None

    def find_distributions(self, context: DistributionFinder.Context) -> Iterator[Distribution]:
        if context.name:
            quietly(self._seen.no_package, context.name)
        return iter(())


@contextmanager
def noted(seen: Seen) -> Iterator[None]:
    finder = _Last(seen)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:  # the user's code may do with the list what it wants to
            sys.meta_path.remove(finder)
