"""Modules that are functions, too: `farm.plan` is a package, and `farm.plan(matrix)` makes a plan.

The functions of `farm.api` are also names of `farm`. Some of these are modules, of which Python
binds the module to the name as soon as it is imported, so that no function can be kept there: such
a module is made callable, and calls the function.
"""

from __future__ import annotations

import sys
from pkgutil import resolve_name
from types import ModuleType
from typing import Any


class _Called(ModuleType):
    """A module `farm.NAME` that calls `farm.api.NAME`."""

    def __call__(self, *values: Any, **options: Any) -> Any:
        function = resolve_name(f"farm.api:{self.__name__.rpartition('.')[2]}")
        return function(*values, **options)


def callable_as_function(module: str) -> None:
    """Make a module callable as the function of `farm.api` that has its name.

    module: its `__name__`; one that runs as a program (`python -m`) stays as it is.
    """
    if module != "__main__":
        sys.modules[module].__class__ = _Called
