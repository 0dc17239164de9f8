"""farm: one matrix in, a leaderboard and a picked engine out.

The functions of `farm.api` are names of this package too: `farm.run("m.yaml")`. They, and what they
need, are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.3.0.dev0"

_FUNCTIONS = ("load_matrix", "leaderboard", "best", "compare")
_MODULES = ("api", "bundle", "plan", "run")
"""Of the API, too: `farm.bundle`, `farm.plan`, `farm.run` can be called; see `farm.called`."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"farm.{name}")
    if name in _FUNCTIONS:
        return getattr(import_module("farm.api"), name)
    raise AttributeError(f"module 'farm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS, *_MODULES})
