"""Another function in the place of one, for as long as a graph is traced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` while this is open."""
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def replaced_everywhere(function: Callable[..., Any], name: str, value: Any) -> Iterator[None]:
    """As `replaced`, in every module that imported `function` by `name`."""
    holders = [m for m in list(sys.modules.values()) if _has(m, name, function)]
    with ExitStack() as stack:
        for holder in holders:
            stack.enter_context(replaced(holder, name, value))
        yield


def _has(module: Any, name: str, function: Callable[..., Any]) -> bool:
    return getattr(module, "__dict__", {}).get(name) is function
