"""Records what one model uses, writing each observation to a file at once."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from farm.plan.content import config_files, dependencies, fingerprints, packages
from farm.plan.content.code import find_module
from farm.sources import user_code
from farm.sources.watch import origins
from farm.specs import Used
from farm.terminal import plain

_OF_TEMPORARY_FILES = ("TMPDIR", "TEMP", "TMP")
"""Variables of temporary folders: a step may set them, which makes no difference to a model."""

_MOST_READ = 1 << 30
"""Bytes read in total from files that are only queried; further ones are compared by size."""

_CLOSED = -1

_OF_MODELS = set[str]()
"""Modules that models of this process imported: a later model that uses them does not import them
again, so they are recorded for it as well."""


class Seen:
    """Writes the dependencies of one model to a file while the model's code runs.

    known: files that planning digests already. user: whose code and files are looked at.
    """

    def __init__(
        self,
        out: Path,
        places: dependencies.Where,
        known: Collection[str],
        user: origins.User,
    ) -> None:
        self.places, self.known, self.user = places, set(known), user
        self._config = ""
        self._folder, self._search = origins.current(), {*sys.path}
        self._left_to_read = _MOST_READ
        self._added_to: set[str] = set()
        self._noted: set[tuple[str, str, str]] = set()
        self._before = sys.modules.keys() - _OF_MODELS
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._out = os.open(out, flags, 0o666)

    def close(self) -> None:
        """Stop recording; the merged config is recorded only where other files were used, too."""
        self._modules()
        if self._config and any(kind != "sought" for kind, _, _ in self._noted):
            self._note("config", "config", self._config)
        os.close(self._out)
        self._out = _CLOSED  # code that kept a reference to a patched function may call it later

    def merged(self, text: str) -> None:
        """Record the config as mmcv merged it, without the path of the project's folder."""
        for folder in self.places.folders:
            text = text.replace(folder, ".")
        self._config = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()

    def sought(self, name: str, reach: config_files.Reach) -> None:
        """Record a file that the farm looks for on the config's behalf, for all its locations."""
        found = config_files.first(name, self.places.folder, reach)
        if found is not None:
            self.known.add(os.path.abspath(found))
        self._note(
            "sought", name, fingerprints.content(found) if found else fingerprints.MISSING, reach
        )

    def opened(self, asked: object, flags: int) -> None:
        """Record a file that is about to be opened."""
        path = origins.absolute(asked)
        if path is None or path == os.devnull:
            return
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self._will_be_written(path, flags)
        else:
            self._read(origins.source(path), asked)

    def _will_be_written(self, path: str, flags: int) -> None:
        if self.user.wrote(path) or flags & (os.O_TRUNC | os.O_EXCL) or not os.path.exists(path):
            self.user.made(path)
        elif flags & os.O_ACCMODE == os.O_RDWR:
            self._read_and_written(path)
        else:
            self._added_to.add(path)

    def _read_and_written(self, path: str) -> None:
        if self.user.owns(path):
            self.unfollowed(f"reads and writes {self.places.name(path)}")

    def _read(self, path: str, asked: object) -> None:
        if origins.is_of_machine(path) or path in self.known:
            return
        if path in self._added_to:
            self._read_and_written(path)
        elif user_code.origin(path) == "installed" and not self.user.added_to_package(path):
            self._installed(path)
        elif self.user.owns(path) and (os.path.isfile(path) or self.user.asks()):
            # a library that does not find an optional file behaves the same on any machine
            digest = fingerprints.content(Path(path))
            self._note_place("file", path, digest, asked)
            if digest == "no file":
                self.unfollowed(f"reads {self.places.name(path)}, which is no plain file")

    def _installed(self, path: str) -> None:
        """Record the version of a package that only the user's code imports."""
        if self.user.has_in_key(path) or not self.user.asks():
            return
        names = origins.packages_of(path)
        for name in names:
            self._note("package", name, packages.exact_version(name))
        if not names:
            self._note("file", "", fingerprints.content(Path(path)), self.places.name(path))

    def listed(self, asked: object) -> None:
        """Record a folder whose content the user's code lists."""
        path = origins.absolute(asked)
        if path and self.user.owns(path) and self.user.asks() and not origins.asked_by_import():
            self._note_place("folder", path, fingerprints.folder(Path(path)), asked)

    def asked_for(self, asked: object, follows: bool = True) -> None:
        """Record a query about a file or folder.

        follows: the query is about the target of a link, not about the link itself.
        """
        path = origins.absolute(asked)
        if path is None or self.places.contains_folder(path) or path in self._added_to:
            return  # the project's folder exists on every machine
        kind, look = ("exists", fingerprints.existence) if follows else ("link", fingerprints.link)
        known = path in self.known and (follows or not os.path.islink(path))
        known |= (kind, "", self.places.name(path)) in self._noted
        if not known and self.user.owns(path) and self.user.asks():
            self._note_place(kind, path, look(Path(path), self._by_size(path)), asked)

    def _by_size(self, path: str) -> bool:
        """Counts the file's bytes; whether the limit on bytes of queried files is exceeded."""
        if os.path.isfile(path):
            self._left_to_read -= os.path.getsize(path)
        return self._left_to_read < 0

    def current_folder(self) -> None:
        """Record that the user's own code queried the current folder."""
        if self.user.asks(imports_too=False):
            self._depends_on_folder()

    def entered(self, asked: object) -> None:
        """Record a change of the current folder if it is by a relative path."""
        if self.user.asks() and origins.is_relative(asked):
            self._depends_on_folder()

    def _depends_on_folder(self) -> None:
        """Record the folder that the process was started in, unless the code has changed it."""
        if origins.current() == self._folder:
            self._note("current", "", dependencies.current_folder(self.places))

    def no_module(self, name: str, path: Sequence[str] | None) -> None:
        """Record a module that was not found. path: the search path of its parent package."""
        if not all(part.isidentifier() for part in name.split(".")) or not self.user.asks():
            return
        if fingerprints.importable(name, None) == fingerprints.MISSING:
            self._note("import", name, fingerprints.MISSING)
        last = name.rpartition(".")[2]
        for folder in self._own_folders(sys.path if path is None else path):
            if fingerprints.importable(last, Path(folder)) == fingerprints.MISSING:
                self._note("import", last, fingerprints.MISSING, self.places.name(folder))

    def _own_folders(self, path: Sequence[str]) -> list[str]:
        """The folders of a search path that planning would not search."""
        folders = [os.path.abspath(one) for one in path if one not in self._search]
        return [one for one in folders if self.user.owns(os.path.join(one, "module"))]

    def no_package(self, name: str) -> None:
        """Record that no package of this name is installed."""
        if self.user.asks(imports_too=False):
            self._note("package", name, packages.exact_version(name))

    def variable(self, name: str, value: bytes | None) -> None:
        """Record an environment variable that the user's code looks up."""
        if name not in _OF_TEMPORARY_FILES and self.user.asks(imports_too=False):
            self._note("variable", name, fingerprints.variable(value))

    def unfollowed(self, what: str) -> None:
        """Record an action whose dependencies cannot be tracked; `what` describes it."""
        self._note("unfollowed", plain(what)[:200], "")

    def by_user_unfollowed(self, what: str) -> None:
        """Record the same if the user's code is among the callers."""
        if self.user.asks():
            self.unfollowed(what)

    def _modules(self) -> None:
        """Record imported modules by name, since another search path finds another file."""
        for name in sys.modules.keys() - self._before:
            path = origins.of_module(sys.modules[name])
            if path is not None and path not in self.known and self.user.owns(path):
                _OF_MODELS.add(name)
                self._module(name, path)

    def _module(self, name: str, path: str) -> None:
        digest, place = fingerprints.content(Path(path)), self.places.name(path)
        found = find_module(name, self.places.modules)
        if found is not None and os.path.realpath(found) == os.path.realpath(path):
            self._note("module", name, digest, place)
        else:
            self._note("file", "", digest, place)

    def _note_place(self, kind: str, path: str, digest: str, asked: object) -> None:
        self._note(kind, "", digest, self.places.name(path))
        if origins.is_relative(asked):
            self._depends_on_folder()

    def _note(self, kind: str, name: str, digest: str, place: str = "") -> None:
        if (kind, name, place) not in self._noted and self._out != _CLOSED:
            self._noted.add((kind, name, place))
            os.write(self._out, dependencies.line(Used(kind, name, digest, place)).encode())
