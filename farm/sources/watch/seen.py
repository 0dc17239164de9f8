"""What was seen of one model, written down as it is seen."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import stat
import sys
from collections.abc import Collection
from functools import cache
from pathlib import Path
from types import ModuleType

from farm.inputs import Used
from farm.plan import lookup, packages, used
from farm.plan.code import find_module
from farm.sources.watch import origin
from farm.terminal import plain

_MACHINE = ("/proc", "/sys", "/dev")
_OF_TEMPORARY_FILES = ("TMPDIR", "TEMP", "TMP")
"""A step may have a folder of its own for these, which makes no difference to a model."""

_OF_MODELS = set[str]()
"""Modules that models of this process have imported: the next one does not import them again."""


class Seen:
    """known: files that planning digests already. in_key: packages whose versions are in the key.
    everything: all that runs is the user's, see `origin.asked_by_user`."""

    def __init__(
        self,
        out: Path,
        places: used.Where,
        known: Collection[str],
        in_key: Collection[str],
        everything: bool,
    ) -> None:
        self.places, self.known, self.everything = places, set(known), everything
        self._config = ""
        self._roots, self._listed = _code_of(in_key)
        self._written: set[str] = set()
        self._added_to: set[str] = set()
        self._noted: set[tuple[str, str, str]] = set()
        self._before = sys.modules.keys() - _OF_MODELS
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._out = os.open(out, flags, 0o666)

    def close(self) -> None:
        """The config as it was merged tells nothing more where nothing else was used."""
        self._modules()
        if self._config and any(kind != "sought" for kind, _, _ in self._noted):
            self._note("config", "config", self._config)
        os.close(self._out)

    def merged(self, text: str) -> None:
        """The config as mmcv made it, without the place of the project's folder."""
        text = text.replace(str(self.places.folder), ".")
        self._config = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    def sought(self, name: str, reach: lookup.Reach) -> None:
        """A file that the farm looks for on the config's behalf stands for all its places."""
        found = lookup.first(name, self.places.folder, reach)
        if found is not None:
            self.known.add(os.path.abspath(found))
        self._note("sought", name, used.content(found) if found else used.MISSING, reach)

    def opened(self, given: object, flags: int) -> None:
        """A file is about to be opened."""
        path = _path(given)
        if path is None or path == os.devnull:
            return
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._will_be_written(path, flags)
        else:
            self._read(_source(path), given)

    def _will_be_written(self, path: str, flags: int) -> None:
        if self._own(path) or flags & (os.O_TRUNC | os.O_EXCL) or not os.path.exists(path):
            self.made(path)
        elif flags & os.O_ACCMODE == os.O_RDWR:
            self._read_and_written(path)
        else:
            self._added_to.add(path)

    def _read_and_written(self, path: str) -> None:
        if self._users(path):
            self.unfollowed(f"reads and writes {self.places.name(path)}")

    def _read(self, path: str, given: object) -> None:
        if origin.inside(path, _MACHINE) or path in self.known:
            return
        if path in self._added_to:
            self._read_and_written(path)
        elif origin.origin(path) == "installed" and not self._is_extra(path):
            self._installed(path)
        elif self._users(path) and (os.path.isfile(path) or self.by_user()):
            # a library that looks for a file in vain goes on as it would anywhere
            digest = used.content(Path(path))
            self._note("file", _relative(given), digest, self.places.name(path))
            if digest == "no file":
                self.unfollowed(f"reads {self.places.name(path)}, which is no plain file")

    def _users(self, path: str) -> bool:
        """Neither Python's, the farm's or the system's, nor made by the code itself, nor of a
        package that has a version."""
        if self._is_extra(path):
            return True
        if origin.inside(path, (*_MACHINE, *self._roots)):
            return False
        return origin.origin(path) in ("own", "text") and not self._own(path)

    def _is_extra(self, path: str) -> bool:
        """In the folder of a package that is in the key, and not among what was installed."""
        if path in self._listed or not origin.inside(path, self._roots):
            return False
        if not origin.inside(path, origin.installed_folders()):
            return False  # a checkout, whose digest is in the key
        return path.endswith(".py") or self.by_user()

    def _installed(self, path: str) -> None:
        """A file of a package that only the user's code imports stands for its version."""
        if origin.inside(path, self._roots) or not self.by_user():
            return
        names = _packages_of(_top(path))
        for name in names:
            self._note("package", name, packages.exact_version(name))
        if not names:
            self._note("file", "", used.content(Path(path)), self.places.name(path))

    def made(self, path: str) -> None:
        """By the model's own code: what is in it follows from the rest."""
        self._written.add(os.path.realpath(path))

    def moved(self, before: str, after: str) -> None:
        if self._own(before):
            self.made(after)

    def _own(self, path: str) -> bool:
        real = Path(os.path.realpath(path))
        return str(real) in self._written or any(str(p) in self._written for p in real.parents)

    def listed(self, path: str) -> None:
        if self._users(path) and self.by_user() and not origin.asked_by_import():
            self._note("folder", "", used.folder(Path(path)), self.places.name(path))

    def asked_for(self, path: str) -> None:
        if self.places.folder.is_relative_to(path):
            return  # it is there wherever the project is
        if self._users(path) and self.by_user():
            self._note("exists", "", used.existence(Path(path)), self.places.name(path))

    def variable(self, name: str, value: bytes | None) -> None:
        if name not in _OF_TEMPORARY_FILES and origin.asked_by_user(
            imports_too=False, everything=self.everything
        ):
            self._note("variable", name, used.variable(value))

    def unfollowed(self, what: str) -> None:
        self._note("unfollowed", plain(what)[:200], "")

    def by_user_unfollowed(self, what: str) -> None:
        if self.by_user():
            self.unfollowed(what)

    def by_user(self) -> bool:
        return origin.asked_by_user(imports_too=True, everything=self.everything)

    def _modules(self) -> None:
        """Modules by name, since another search path finds another file."""
        for name in sys.modules.keys() - self._before:
            path = _file(sys.modules[name])
            if path is not None and path not in self.known and self._users(path):
                _OF_MODELS.add(name)
                self._module(name, path)

    def _module(self, name: str, path: str) -> None:
        digest, place = used.content(Path(path)), self.places.name(path)
        found = find_module(name, self.places.modules)
        if found is not None and os.path.realpath(found) == os.path.realpath(path):
            self._note("module", name, digest, place)
        else:
            self._note("file", "", digest, place)

    def _note(self, kind: str, name: str, digest: str, place: str = "") -> None:
        if (kind, name, place) not in self._noted:
            self._noted.add((kind, name, place))
            os.write(self._out, used.line(Used(kind, name, digest, place)).encode())


def _code_of(in_key: Collection[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The folders of these packages, and the files in them that were installed."""
    roots, listed = [], set[str]()
    for name in in_key:
        if dist := packages.distribution(name):
            roots += [str(place) for place in packages.code_places(dist)]
            root = str(dist.locate_file("")).rstrip("/")
            listed |= {f"{root}/{one}" for one, _ in packages.listed_code(dist)}
    return tuple(roots), frozenset(listed)


def _path(given: object) -> str | None:
    """Absolute, as text; None for a descriptor, or what is no path."""
    if not isinstance(given, str | bytes | os.PathLike):
        return None
    return os.path.abspath(os.fsdecode(given))


def _relative(given: object) -> str:
    """The name that was given, where it depends on the folder that the process is in."""
    text = os.fsdecode(given) if isinstance(given, str | bytes | os.PathLike) else ""
    return "" if os.path.isabs(text) or text.endswith(".pyc") else text


def _source(path: str) -> str:
    """Compiled code stands for its source."""
    if "__pycache__" not in path or not path.endswith(".pyc"):
        return path
    try:
        return importlib.util.source_from_cache(path)
    except ValueError:
        return path


def _file(module: ModuleType) -> str | None:
    path = getattr(module, "__file__", None)
    if not isinstance(path, str):
        return None
    path = os.path.abspath(path)
    regular = os.path.exists(path) and stat.S_ISREG(os.stat(path).st_mode)
    return path if regular else None


def _top(path: str) -> str:
    """The top-level module of an installed file."""
    for folder in origin.installed_folders():
        if path.startswith(f"{folder}/"):
            return path[len(folder) + 1 :].partition("/")[0].partition(".")[0]
    return ""


@cache
def _packages_of(top: str) -> tuple[str, ...]:
    """The installed packages that bring the module; none for one that nobody installed."""
    return tuple(dict.fromkeys(_by_module().get(top, ())))


@cache
def _by_module() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
