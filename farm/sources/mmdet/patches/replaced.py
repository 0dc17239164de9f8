"""Replaces functions while a graph is traced."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set `owner.name` to `value` in the block."""
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def replaced_everywhere(function: Callable[..., Any], name: str, value: Any) -> Iterator[None]:
    """Replace `function` in every module that imported it by `name`."""
    holders = [m for m in list(sys.modules.values()) if _has(m, name, function)]
    with ExitStack() as stack:
        for holder in holders:
            stack.enter_context(replaced(holder, name, value))
        yield


def _has(module: Any, name: str, function: Callable[..., Any]) -> bool:
    return getattr(module, "__dict__", {}).get(name) is function
