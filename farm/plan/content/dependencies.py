"""What else a model is made of: modules, files and variables, and whether they have changed.

`check` records what the model used (`farm.sources.watch`), and a plan compares it with its state
today. What changed becomes part of the key of the next `check`: each state has a record of its own,
which is found again when that state returns.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path

from farm.files import jsonfile
from farm.plan.content import config_files, fingerprints
from farm.plan.content.code import find_module
from farm.plan.content.packages import exact_version
from farm.specs import AnyModel, ModuleModel, OnnxModel, OtherModel, Used

FILE = "used.jsonl"
"""In the artifact of `check`: a line for each `Used`, in the order of use."""

_NOT_COMPARED = ("config", "unfollowed")
_IN_NO_KEY = ("current", "unfollowed")


@dataclass(frozen=True)
class Where:
    """folder: to which recorded paths are relative. modules: where modules are looked for first."""

    folder: Path
    modules: Path | None = None

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """The folder as it was named, and with its links resolved."""
        return tuple(dict.fromkeys((str(self.folder), os.path.realpath(self.folder))))

    def name(self, path: str) -> str:
        """Return a path as it is recorded: the same for the same project in another folder."""
        for folder in self.folders:
            if Path(path).is_relative_to(folder):
                return os.path.relpath(path, folder)
        common = os.path.commonpath([path, str(self.folder)])
        return path if common == os.sep else os.path.relpath(path, self.folder)

    def contains_folder(self, path: str) -> bool:
        """Whether the folder is this one, or lies in it."""
        return any(Path(folder).is_relative_to(path) for folder in self.folders)

    def path(self, place: str) -> Path:
        """Undo `name`."""
        return Path(os.path.normpath(self.folder / place))


def where(model: AnyModel) -> Where:
    """Return the folders to which the paths recorded of a model are relative."""
    if isinstance(model, ModuleModel | OtherModel):
        return Where(Path(model.root).resolve(), Path(model.root).resolve())
    file = model.file if isinstance(model, OnnxModel) else model.config
    return Where(Path(os.path.abspath(file.path)).parent)


def read(path: Path) -> tuple[Used, ...]:
    """Return the entries of a file, each once; none where it does not exist or cannot be read.

    A last line that is incomplete, since its process ended, is skipped.
    """
    try:
        lines = jsonfile.read_bytes(path).decode().splitlines()
    except (OSError, ValueError):
        return ()
    found = (_entry(line) for line in lines)
    first = {(one.kind, one.name, one.place): one for one in reversed([*filter(None, found)])}
    return tuple(reversed(first.values()))


def line(entry: Used) -> str:
    """Return an entry as a line of the file."""
    return json.dumps(astuple(entry)) + "\n"


def _entry(text: str) -> Used | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    fits = isinstance(values, list) and len(values) == 4
    return Used(*values) if fits and all(isinstance(value, str) for value in values) else None


def holds(entries: Sequence[Used], places: Where) -> bool:
    """Return whether nothing has changed."""
    return all(now(entry, places) == entry.digest for entry in entries)


def state(entries: Sequence[Used], places: Where) -> str:
    """Return one digest of the state of all entries today."""
    return _total(replace(entry, digest=now(entry, places)) for entry in entries)


def changed(entries: Sequence[Used], places: Where) -> list[str]:
    """Return the names of what has changed, as people call them."""
    found = [one for one in entries if now(one, places) != one.digest]
    return list(dict.fromkeys(called(one) for one in found))


def called(entry: Used) -> str:
    """Return what people call it."""
    if entry.kind == "variable":
        return f"${entry.name}"
    if entry.kind == "current":
        return "the current folder"
    return entry.place if entry.kind in ("module", *_BY_PLACE) else entry.name


def as_key(entries: Iterable[Used]) -> str:
    """Return the digest of all entries that is in the keys of later steps: of names and contents.

    It holds no path outside of the project, so that the same project elsewhere has the same keys.
    Files outside have their base names alone, in the order of their paths, so that two of one name
    cannot be exchanged unnoticed. The current folder counts by what is found through it.
    """
    kept = [one for one in entries if one.kind not in _IN_NO_KEY and not _in_vain(one)]
    out = sorted({(one.place, one.kind, one.digest) for one in kept if _outside(one)})
    short = [[kind, os.path.basename(place), digest] for place, kind, digest in out]
    short += sorted([one.kind, _short(one), one.digest] for one in kept if not _outside(one))
    return hashlib.sha256(json.dumps(short).encode()).hexdigest() if short else ""


def _in_vain(entry: Used) -> bool:
    """Return whether it was looked for and not found: that changes nothing of the model."""
    return entry.kind in _SOUGHT and entry.digest == fingerprints.MISSING


_SOUGHT = ("sought", "import")
_BY_PLACE = ("file", "folder", "exists", "link")
_EXISTENCE = {"exists": fingerprints.existence, "link": fingerprints.link}


def _outside(entry: Used) -> bool:
    """Return whether it lies outside of the project's folder, or of the config's."""
    above = entry.place.partition(os.sep)[0] in ("", "..")
    return entry.kind in _BY_PLACE and bool(entry.place) and above


def _short(entry: Used) -> str:
    if entry.kind in _BY_PLACE:
        return entry.place or entry.name
    return os.path.basename(entry.name) if os.path.isabs(entry.name) else entry.name


def unfollowed(entries: Iterable[Used]) -> list[str]:
    """Return what the model's code did whose outcome may change unnoticed."""
    return [one.name for one in entries if one.kind == "unfollowed"]


def _total(entries: Iterable[Used]) -> str:
    texts = sorted(json.dumps(asdict(entry), sort_keys=True) for entry in entries)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def now(entry: Used, places: Where) -> str:
    """Return the digest of an entry today."""
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
    if entry.kind in _EXISTENCE:
        return _EXISTENCE[entry.kind](place, entry.digest.endswith(fingerprints.SIZE))
    return fingerprints.folder(place) if entry.kind == "folder" else fingerprints.content(place)


def current_folder(places: Where) -> str:
    """Return the path of the current folder; 'missing' where it was removed."""
    try:
        return places.name(os.getcwd())
    except OSError:
        return fingerprints.MISSING
