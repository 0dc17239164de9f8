"""Where the watching reaches into Python: audit events, the environment, questions for files."""

from __future__ import annotations

import hashlib
import os
import pathlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any

from farm import catalog
from farm.inputs import AnyModel, Model, ModuleModel
from farm.plan import used
from farm.plan.code import code_parts
from farm.plan.configs import config_parts
from farm.sources.watch.seen import Seen

_now: Seen | None = None
_busy = threading.local()


@contextmanager
def watching(model: AnyModel, out: Path) -> Iterator[None]:
    """Writes to `out` what the model is made of while the block runs; see `farm.plan.used`.

    A ready ONNX file runs no code, and is all that it is made of.
    """
    global _now
    if not isinstance(model, Model | ModuleModel):
        yield
        return
    packages = catalog.SOURCES[model.source].packages
    seen = Seen(out, used.where(model), _known(model), packages, isinstance(model, ModuleModel))
    _install()
    with ExitStack() as stack:
        for patch in (*_environment(), *_questions()):
            stack.enter_context(patch)
        stack.callback(_end, seen)
        _now = seen
        yield


def _end(seen: Seen) -> None:
    global _now
    _now = None
    seen.close()


def merged(text: str) -> None:
    """The config as mmcv made it, without the place of the project's folder."""
    if _now is not None:
        text = text.replace(str(_now.places.folder), ".")
        _now.merged = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _known(model: Model | ModuleModel) -> set[str]:
    """The files that are in the key of the check itself."""
    if isinstance(model, Model):
        parts = config_parts(Path(model.config.path))
    else:
        parts = code_parts(model.function.partition(":")[0], Path(model.root))
    weights = [model.checkpoint.path] if model.checkpoint else []
    return {*map(str, parts), *weights}


@cache
def _install() -> None:
    """Audit hooks stay for as long as the process does."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    handle = _EVENTS.get(event)
    if handle and _now is not None:
        _quietly(handle, _now, *arguments)


def _quietly(handle: Callable[..., None], *arguments: Any) -> None:
    """What watching itself opens is not the model's."""
    if getattr(_busy, "yes", False):
        return
    _busy.yes = True
    try:
        handle(*arguments)
    finally:
        _busy.yes = False


def _open(seen: Seen, path: Any, mode: Any, flags: Any) -> None:
    seen.opened(path, flags if isinstance(flags, int) else 0)


def _list(seen: Seen, path: Any = None, *_: Any) -> None:
    if isinstance(path, int):
        return
    seen.listed(os.path.abspath(os.fsdecode(path or ".")))


def _made(seen: Seen, path: Any, *_: Any) -> None:
    if isinstance(path, str | bytes | os.PathLike):
        seen.made(os.path.abspath(os.fsdecode(path)))


def _renamed(seen: Seen, before: Any, after: Any, *_: Any) -> None:
    seen.moved(os.path.abspath(os.fsdecode(before)), os.path.abspath(os.fsdecode(after)))


def _database(seen: Seen, path: Any, *_: Any) -> None:
    seen.opened(path, os.O_RDONLY)


def _library(seen: Seen, path: Any, *_: Any) -> None:
    if path and seen.by_user():
        seen.opened(path, os.O_RDONLY)
        seen.unfollowed(f"loads the native library {os.path.basename(os.fsdecode(path))}")


def _beyond(what: str) -> Callable[..., None]:
    def note(seen: Seen, *_: Any) -> None:
        if seen.by_user():
            seen.unfollowed(what)

    return note


_EVENTS: dict[str, Callable[..., None]] = {
    "open": _open,
    "os.listdir": _list,
    "os.scandir": _list,
    "os.mkdir": _made,
    "os.rename": _renamed,
    "sqlite3.connect": _database,
    "ctypes.dlopen": _library,
    **dict.fromkeys(
        ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"), _beyond("starts a program")
    ),
    **dict.fromkeys(("socket.connect", "socket.getaddrinfo"), _beyond("uses the network")),
}


@contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = holder.__dict__[name]
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def _environment() -> Iterator[Any]:
    """`os.environ` and `os.getenv` look up one variable; to go through all of them is said."""
    kind: Any = type(os.environ)
    get, through, put = kind.__getitem__, kind.__iter__, kind.__setitem__
    walked, own = deque[Any](), set[str]()

    def getitem(self: Any, key: Any) -> Any:
        if walked and walked[0] == key:
            walked.popleft()
        elif _now is not None and isinstance(key, str | bytes) and os.fsdecode(key) not in own:
            value = os.environ._data.get(os.fsencode(key))  # type: ignore[attr-defined]
            _quietly(_now.variable, os.fsdecode(key), value)
        return get(self, key)

    def iterate(self: Any) -> Iterator[Any]:
        if _now is not None:
            _quietly(_beyond("goes through all environment variables"), _now)
        walked.clear()
        for key in through(self):
            walked.append(key)  # its value is looked up next, or when all names are there
            yield key

    def setitem(self: Any, key: Any, value: Any) -> None:
        if isinstance(key, str | bytes):
            own.add(os.fsdecode(key))
        put(self, key, value)

    for name, made in (("__getitem__", getitem), ("__iter__", iterate), ("__setitem__", setitem)):
        yield _replaced(kind, name, made)


def _questions() -> Iterator[Any]:
    """`os.path.exists` and its kin ask `os.stat`, which is no audit event."""
    keeper = getattr(pathlib, "_NormalAccessor", None)  # up to Python 3.10
    for holder in filter(None, (os, keeper)):
        for name in ("stat", "lstat", "access"):
            if real := getattr(holder, name, None):
                patched = _asking(real)
                made = staticmethod(patched) if holder is keeper else patched
                yield _replaced(holder, name, made)


def _asking(real: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(real)
    def ask(path: Any, *rest: Any, **named: Any) -> Any:
        if _now is not None and isinstance(path, str | bytes | os.PathLike):
            _quietly(_asked, _now, path)
        return real(path, *rest, **named)

    return ask


def _asked(seen: Seen, path: Any) -> None:
    seen.asked_for(os.path.abspath(os.fsdecode(path)))
