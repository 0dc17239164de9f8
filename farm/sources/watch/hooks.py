"""Watches a model by Python's audit events, and by a finder for imports that find nothing."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from farm import catalog
from farm.plan.content import dependencies
from farm.plan.content.code import code_parts
from farm.plan.content.configs import config_parts
from farm.sources import notices, user_code
from farm.sources.watch.origins import User
from farm.sources.watch.patches import patched, quietly
from farm.sources.watch.seen import Seen
from farm.specs import AnyModel, Model, ModuleModel

_now: Seen | None = None


class _Last(MetaPathFinder):
    """The last import finder: records names that no other finder knows, and finds nothing."""

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
    """Record in the block the modules and packages that are not found."""
    finder = _Last(seen)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:  # the user's code may have changed the list
            sys.meta_path.remove(finder)


@contextmanager
def watching(model: AnyModel, out: Path) -> Iterator[None]:
    """Write to `out` what the model depends on while the block runs.

    `farm.plan.content.dependencies` reads it.

    A ready ONNX file runs no code and has no dependency besides itself.
    """
    global _now
    if not isinstance(model, Model | ModuleModel):
        yield
        return
    packages = catalog.SOURCES[model.source].packages
    user = User(packages, everything=isinstance(model, ModuleModel))
    seen = Seen(out, dependencies.where(model), _known(model), user)
    _install()
    tempfile.gettempdir()  # its first call queries the current folder, which is not the model's
    try:
        with (
            user_code.ignored(),
            patched(seen),
            noted(seen),
            notices.merged.heard_by(seen.merged),
            notices.sought.heard_by(seen.sought),
        ):
            _now = seen
            yield
    finally:
        _now = None
        seen.close()


def _known(model: Model | ModuleModel) -> set[str]:
    """The files whose digests are part of the key of `check` itself."""
    if isinstance(model, Model):
        parts = config_parts(Path(model.config.path))
    else:
        parts = code_parts(model.function.partition(":")[0], Path(model.root))
    weights = [model.checkpoint.path] if model.checkpoint else []
    return {*map(str, parts), *weights}


@cache
def _install() -> None:
    """Installs the audit hook once: Python cannot remove one."""
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    handle = _EVENTS.get(event)
    if handle and _now is not None:
        quietly(handle, _now, *arguments)


def _open(seen: Seen, path: Any, mode: Any, flags: Any) -> None:
    seen.opened(path, flags if isinstance(flags, int) else os.O_RDONLY)


def _list(seen: Seen, path: Any = None, *_: Any) -> None:
    seen.listed(path or ".")


def _enter(seen: Seen, path: Any, *_: Any) -> None:
    seen.entered(path)


def _made(seen: Seen, path: Any, *_: Any) -> None:
    seen.user.made(_absolute(path))


def _renamed(seen: Seen, before: Any, after: Any, *_: Any) -> None:
    seen.user.moved(_absolute(before), _absolute(after))


def _database(seen: Seen, path: Any, *_: Any) -> None:
    seen.opened(path, os.O_RDONLY)


def _library(seen: Seen, path: Any, *_: Any) -> None:
    if path and seen.user.asks():
        seen.opened(path, os.O_RDONLY)
        seen.unfollowed(f"loads the native library {os.path.basename(os.fsdecode(path))}")


def _beyond(what: str) -> Callable[..., None]:
    return lambda seen, *_: seen.by_user_unfollowed(what)


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


_PROGRAMS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec")
_NETWORK = ("socket.connect", "socket.getaddrinfo")
_EVENTS: dict[str, Callable[..., None]] = {
    "open": _open,
    "os.listdir": _list,
    "os.scandir": _list,
    "os.chdir": _enter,
    "os.mkdir": _made,
    "os.rename": _renamed,
    "sqlite3.connect": _database,
    "ctypes.dlopen": _library,
    **dict.fromkeys(_PROGRAMS, _beyond("starts a program")),
    **dict.fromkeys(_NETWORK, _beyond("uses the network")),
}
