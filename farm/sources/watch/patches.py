"""Replaces functions that raise no audit event: the environment, and queries about files."""

from __future__ import annotations

import os
import pathlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farm.sources.watch.seen import Seen

ALL_VARIABLES = "goes through all environment variables"

_busy = threading.local()


def quietly(handle: Callable[..., None], *arguments: Any) -> None:
    """Call `handle`; what it opens or queries itself is not recorded."""
    if getattr(_busy, "yes", False):
        return
    _busy.yes = True
    try:
        handle(*arguments)
    finally:
        _busy.yes = False


@contextmanager
def patched(seen: Seen) -> Iterator[None]:
    """Replace the functions in the block, and restore them afterwards."""
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
    """Records each variable that is looked up, and reports code that iterates over all of them."""
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
            walked.append(key)  # the caller looks up its value next, or after it has all names
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
    """Adds the replacement to the sets in which `os` lists functions by what they support.

    `shutil` looks the functions up in these sets (as `os.supports_follow_symlinks`).
    """
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
    """Wraps `os.stat` and the like, which `os.path.exists` and `os.path.realpath` call."""
    follows = real not in (os.lstat, os.readlink)

    @wraps(real)
    def ask(path: Any, *rest: Any, **named: Any) -> Any:
        if named.get("dir_fd") is None:  # else relative to an unknown folder
            quietly(seen.asked_for, path, follows and named.get("follow_symlinks", True))
        return real(path, *rest, **named)

    return ask


def _current(real: Callable[[], Any], seen: Seen) -> Callable[[], Any]:
    """Wraps `os.getcwd`, which `os.path.abspath` and `pathlib` call, too."""

    @wraps(real)
    def ask() -> Any:
        quietly(seen.current_folder)
        return real()

    return ask


_ASKING: dict[str, Callable[[Any, Seen], Any]] = {
    **dict.fromkeys(("stat", "lstat", "access", "readlink"), _asking),
    **dict.fromkeys(("getcwd", "getcwdb"), _current),
}
