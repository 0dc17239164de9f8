"""What a model is made of beside its own files: whether it is still as `check` found it.

`check` writes down what it saw (`farm.sources.watch`); a plan looks at the same things again. What
changed is part of the key of the next `check`, so that what was once found of a state stays true of
it, and is found again when that state is back.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path

from farm import jsonfile
from farm.plan import config_files, fingerprints
from farm.plan.code import find_module
from farm.plan.packages import exact_version
from farm.specs import AnyModel, ModuleModel, OnnxModel, OtherModel, Used

FILE = "used.jsonl"
"""In the artifact of `check`: a line for each `Used`, in the order of use."""

_NOT_COMPARED = ("config", "unfollowed")
_IN_NO_KEY = ("current", "unfollowed")


@dataclass(frozen=True)
class Where:
    """folder: from which places are told. modules: where modules are looked for first."""

    folder: Path
    modules: Path | None = None

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """The folder as it was named, and as it is called without links."""
        return tuple(dict.fromkeys((str(self.folder), os.path.realpath(self.folder))))

    def name(self, path: str) -> str:
        """A place as it is written down: the same for the same project in another folder."""
        for folder in self.folders:
            if Path(path).is_relative_to(folder):
                return os.path.relpath(path, folder)
        together = os.path.commonpath([path, str(self.folder)])
        return path if together == os.sep else os.path.relpath(path, self.folder)

    def contains_folder(self, path: str) -> bool:
        """Whether the folder is this one, or lies in it."""
        return any(Path(folder).is_relative_to(path) for folder in self.folders)

    def path(self, place: str) -> Path:
        return Path(os.path.normpath(self.folder / place))


def where(model: AnyModel) -> Where:
    if isinstance(model, ModuleModel | OtherModel):
        return Where(Path(model.root).resolve(), Path(model.root).resolve())
    file = model.file if isinstance(model, OnnxModel) else model.config
    return Where(Path(os.path.abspath(file.path)).parent)


def read(path: Path) -> tuple[Used, ...]:
    """What is written down there, each thing once; nothing where the file is not there or torn.

    A last line that was cut short with its process is left out.
    """
    try:
        lines = jsonfile.read_bytes(path).decode().splitlines()
    except (OSError, ValueError):
        return ()
    found = (_entry(line) for line in lines)
    first = {(one.kind, one.name, one.place): one for one in reversed([*filter(None, found)])}
    return tuple(reversed(first.values()))


def line(entry: Used) -> str:
    return json.dumps(astuple(entry)) + "\n"


def _entry(text: str) -> Used | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    fits = isinstance(values, list) and len(values) == 4
    return Used(*values) if fits and all(isinstance(value, str) for value in values) else None


def holds(entries: Sequence[Used], places: Where) -> bool:
    """Whether all of it is still as it was."""
    return all(now(entry, places) == entry.digest for entry in entries)


def state(entries: Sequence[Used], places: Where) -> str:
    """One digest of how all of it is now, whatever it was before."""
    return _total(replace(entry, digest=now(entry, places)) for entry in entries)


def changed(entries: Sequence[Used], places: Where) -> list[str]:
    """What is no longer as it was, as people call it."""
    found = [one for one in entries if now(one, places) != one.digest]
    return list(dict.fromkeys(called(one) for one in found))


def called(entry: Used) -> str:
    """As people call it."""
    if entry.kind == "variable":
        return f"${entry.name}"
    if entry.kind == "current":
        return "the current folder"
    return entry.place if entry.kind in ("module", *_BY_PLACE) else entry.name


def as_key(entries: Iterable[Used]) -> str:
    """Stands for all of it in the keys of the later steps: by names and contents.

    No folder outside of the project is in it, so that the same project in another one has the same
    keys. Files out there have their base names alone, in the order of their places, so that two of
    one name cannot change places unseen. The current folder counts by what is found through it.
    """
    kept = [one for one in entries if one.kind not in _IN_NO_KEY and not _in_vain(one)]
    out = sorted({(one.place, one.kind, one.digest) for one in kept if _outside(one)})
    short = [[kind, os.path.basename(place), digest] for place, kind, digest in out]
    short += sorted([one.kind, _short(one), one.digest] for one in kept if not _outside(one))
    return hashlib.sha256(json.dumps(short).encode()).hexdigest() if short else ""


def _in_vain(entry: Used) -> bool:
    """The model is what it is without that file or module, as before anybody looked for it."""
    return entry.kind in _SOUGHT and entry.digest == fingerprints.MISSING


_SOUGHT = ("sought", "import")
_BY_PLACE = ("file", "folder", "exists", "link")
_ASKED_FOR = {"exists": fingerprints.existence, "link": fingerprints.link}


def _outside(entry: Used) -> bool:
    """Of the project's folder, or that of the config."""
    above = entry.place.partition(os.sep)[0] in ("", "..")
    return entry.kind in _BY_PLACE and bool(entry.place) and above


def _short(entry: Used) -> str:
    if entry.kind in _BY_PLACE:
        return entry.place or entry.name
    return os.path.basename(entry.name) if os.path.isabs(entry.name) else entry.name


def unfollowed(entries: Iterable[Used]) -> list[str]:
    return [one.name for one in entries if one.kind == "unfollowed"]


def _total(entries: Iterable[Used]) -> str:
    texts = sorted(json.dumps(asdict(entry), sort_keys=True) for entry in entries)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def now(entry: Used, places: Where) -> str:
    """Its digest today."""
    if entry.kind in _NOT_COMPARED:
        return entry.digest
    if entry.kind == "variable":
        return fingerprints.variable(os.environb.get(os.fsencode(entry.name)))
    if entry.kind == "package":
        return exact_version(entry.name)
    if entry.kind == "sought":
        found = config_files.first(entry.name, places.folder, entry.place)  # type: ignore[arg-type]
        return fingerprints.content(found) if found else fingerprints.MISSING
    if entry.kind == "current":
        return current_folder(places)
    if entry.kind == "import":
        return fingerprints.importable(
            entry.name, places.path(entry.place) if entry.place else None
        )
    place = places.path(entry.place)
    if entry.kind == "module":
        return fingerprints.content(find_module(entry.name, places.modules) or place)
    if entry.kind in _ASKED_FOR:
        return _ASKED_FOR[entry.kind](place, entry.digest.endswith(fingerprints.SIZE))
    return fingerprints.folder(place) if entry.kind == "folder" else fingerprints.content(place)


def current_folder(places: Where) -> str:
    """Its place; 'missing' where it was removed."""
    try:
        return places.name(os.getcwd())
    except OSError:
        return fingerprints.MISSING
