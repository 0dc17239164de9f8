"""The environment and questions for files, which are no audit events: asked by way of us."""

from __future__ import annotations

import os
import pathlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from farm.sources.watch.seen import Seen

ALL_VARIABLES = "goes through all environment variables"

_busy = threading.local()


def quietly(handle: Callable[..., None], *arguments: Any) -> None:
    """What watching itself opens and asks for is not the model's."""
    if getattr(_busy, "yes", False):
        return
    _busy.yes = True
    try:
        handle(*arguments)
    finally:
        _busy.yes = False


@contextmanager
def patched(seen: Seen) -> Iterator[None]:
    with ExitStack() as stack:
        for name, made in _environment(seen).items():
            stack.enter_context(_replaced(type(os.environ), name, made))
        keeper = getattr(pathlib, "_NormalAccessor", None)  # up to Python 3.10
        for name, make in _ASKING.items():
            real = getattr(os, name)
            asking = make(real, seen)
            stack.enter_context(_as_able(real, asking))
            stack.enter_context(_replaced(os, name, asking))
            if keeper and name in vars(keeper):
                stack.enter_context(_replaced(keeper, name, staticmethod(asking)))
        yield


@contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(holder)[name]
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def _environment(seen: Seen) -> dict[str, Any]:
    """`os.environ` and `os.getenv` look up one variable; to go through all of them is said."""
    kind: Any = type(os.environ)
    get, through, put, drop = (
        getattr(kind, f"__{name}__") for name in ("getitem", "iter", "setitem", "delitem")
    )
    walked, own = deque[Any](), set[str]()

    def getitem(self: Any, key: Any) -> Any:
        if walked and walked[0] == key:
            walked.popleft()
        elif isinstance(key, str | bytes) and os.fsdecode(key) not in own:
            value = os.environ._data.get(os.fsencode(key))  # type: ignore[attr-defined]
            quietly(seen.variable, os.fsdecode(key), value)
        return get(self, key)

    def iterate(self: Any) -> Iterator[Any]:
        quietly(seen.by_user_unfollowed, ALL_VARIABLES)
        walked.clear()
        for key in through(self):
            walked.append(key)  # its value is looked up next, or when all names are there
            yield key

    def setitem(self: Any, key: Any, value: Any) -> None:
        put(self, key, value)
        own.add(os.fsdecode(key))

    def delitem(self: Any, key: Any) -> None:
        drop(self, key)
        own.add(os.fsdecode(key))

    return {
        "__getitem__": getitem, "__iter__": iterate,
        "__setitem__": setitem, "__delitem__": delitem,
    }  # fmt: skip


@contextmanager
def _as_able(real: Any, asking: Any) -> Iterator[None]:
    """`os` says in sets of functions what each can do, and `shutil` looks there."""
    known = os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks
    able = [one for one in (*known, os.supports_effective_ids) if real in one]
    for one in able:
        one.add(asking)
    try:
        yield
    finally:
        for one in able:
            one.discard(asking)


def _asking(real: Callable[..., Any], seen: Seen) -> Callable[..., Any]:
    """`os.path.exists` and its kin ask `os.stat`, `os.path.realpath` asks for each link."""
    follows = real not in (os.lstat, os.readlink)

    @wraps(real)
    def ask(path: Any, *rest: Any, **named: Any) -> Any:
        if named.get("dir_fd") is None:  # else it says nothing without that folder
            quietly(seen.asked_for, path, follows and named.get("follow_symlinks", True))
        return real(path, *rest, **named)

    return ask


def _current(real: Callable[[], Any], seen: Seen) -> Callable[[], Any]:
    """`os.path.abspath` and `pathlib` ask for it, too."""

    @wraps(real)
    def ask() -> Any:
        quietly(seen.current_folder)
        return real()

    return ask


_ASKING: dict[str, Callable[[Any, Seen], Any]] = {
    **dict.fromkeys(("stat", "lstat", "access", "readlink"), _asking),
    **dict.fromkeys(("getcwd", "getcwdb"), _current),
}
