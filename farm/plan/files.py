"""The user's files as planning sees them: found or not, and a digest of what matters in them."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path

from farm.errors import InputError
from farm.inputs import File
from farm.plan import mmdet3


class NotThere(InputError):
    """A file or folder of the user's that is not there, or not what it should be."""

    def __init__(self, kind: str, path: Path, what: str, where: str = "") -> None:
        super().__init__(f"{kind} {path} {what}", where)
        self.kind, self.path, self.what = kind, path, what

    def at(self, where: str) -> NotThere:
        return NotThere(self.kind, self.path, self.what, where)


def expanded(name: str, folder: Path) -> Path:
    """`name` from `folder`, with `~` filled in. Raises InputError for what can be no path."""
    try:
        path = folder / Path(name).expanduser()
        path.exists()  # a null byte or a name too long is told here
        str(path).encode()
    except (ValueError, RuntimeError, OSError) as error:
        raise InputError(f"{name[:80]!r} is no path: {error}") from None
    return path


def find_config(name: str, folder: Path) -> Path | None:
    """A path (relative ones start at the matrix's folder), or a config that mmdet ships."""
    own = expanded(name, folder)
    if own.is_file():
        return own
    # find_spec does not import the package: planning stays light, and works without mmdet.
    spec = importlib.util.find_spec("mmdet")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        shipped = Path(root) / ".mim" / "configs" / name
        if shipped.is_file():
            return shipped
    return None


def config_file(name: str, folder: Path) -> File:
    """A config with all its `_base_` files in one digest. Raises InputError."""
    path = find_config(name, folder)
    if path is None:
        raise InputError(
            f"config {name!r} is neither a file (looked at {folder / name}) "
            "nor a config that the installed mmdet ships"
        )
    total = hashlib.sha256()
    for part in _with_bases(path.resolve(), ()):
        total.update(part.read_bytes() + b"\0")
    return File(str(path.resolve()), total.hexdigest())


def _with_bases(path: Path, seen: tuple[Path, ...]) -> Iterator[Path]:
    """The config, and what its literal `_base_` names, read without running any of it."""
    if path in seen:
        raise InputError(f"config {path} is its own _base_")
    if not path.is_file():
        raise InputError(f"config {seen[-1]} has a _base_ that is not there: {path}")
    yield path
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"not valid Python: {error}", f"{path}:{line or 1}") from None
    mmdet3.refuse_text(path.read_bytes(), str(path))
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "_base_" for target in node.targets
        ):
            for base in _literal_bases(node, path):
                yield from _with_bases(expanded(base, path.parent).resolve(), (*seen, path))


def _literal_bases(node: ast.Assign, path: Path) -> list[str]:
    try:
        bases = ast.literal_eval(node.value)
    except ValueError:
        bases = None
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list | tuple) or not all(isinstance(base, str) for base in bases):
        raise InputError(
            "_base_ must be written out as a path or a list of paths: what code makes of it is "
            "not known at planning, and a change in it would go unseen",
            f"{path}:{node.lineno}",
        )
    return list(bases)


def plain_file(kind: str, name: str, folder: Path) -> File:
    """Any other file. Raises InputError if it is not there or empty."""
    path = expanded(name, folder).resolve()
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise NotThere(kind, path, what)
    if path.stat().st_size == 0:
        raise NotThere(kind, path, "is empty")
    return File(str(path), _digest(path))


def image_folder(name: str, folder: Path) -> File:
    """A folder of images: names and sizes make the digest; reading gigabytes would not be quick."""
    path = expanded(name, folder).resolve()
    if not path.is_dir():
        what = "is a file, not a folder" if path.is_file() else "does not exist"
        raise NotThere("image folder", path, what)
    total = hashlib.sha256()
    count = 0
    for root, folders, names in os.walk(path):
        folders.sort()
        for file in sorted(names):
            size = os.stat(os.path.join(root, file)).st_size
            total.update(f"{os.path.relpath(root, path)}/{file}\0{size}\n".encode())
            count += 1
    if not count:
        raise NotThere("image folder", path, "is empty")
    return File(str(path), total.hexdigest())


def _digest(path: Path) -> str:
    """sha256 of a file, remembered by path, size and time of change (checkpoints are large)."""
    stat = path.stat()
    mark = f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    name = hashlib.sha256(mark.encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farm" / "digests"
    try:
        return str(json.loads((cache / name).read_text())["sha256"])
    except (OSError, ValueError, KeyError):
        pass
    digest = _read_digest(path)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        part = cache / f"{name}.{os.getpid()}"
        part.write_text(json.dumps({"sha256": digest, "path": str(path)}))
        part.replace(cache / name)
    except OSError:
        pass  # a read-only home costs the time of reading the file again, nothing else
    return digest


def _read_digest(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
