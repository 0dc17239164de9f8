"""The code of a function as planning sees it: found, and digested, without importing any of it."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from farm.errors import InputError
from farm.inputs import File


def code_file(module: str, folder: Path) -> File:
    """The file of `package.module`, and in its digest all that it imports from `folder`.

    Found as Python would find it, `folder` first. Of an installed package only that one file is
    in the digest. Raises InputError.
    """
    path = _find(module.split("."), folder)
    if path is None:
        raise InputError(f"module {module!r} is neither in {folder} nor installed")
    reached: dict[Path, None] = {}
    for part in _prefixes(module, folder):
        _reach(part, folder, reached)
    _reach(path, folder, reached)
    total = hashlib.sha256()
    for part in sorted(reached):
        total.update(part.name.encode() + b"\0" + part.read_bytes() + b"\0")
    return File(str(path), total.hexdigest())


def _find(names: Sequence[str], folder: Path) -> Path | None:
    if not all(names):
        return None
    if own := _inside(folder, names):
        return own
    spec = importlib.util.find_spec(names[0])  # of a top-level name: imports nothing
    if spec is None:
        return None
    if len(names) == 1:
        return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None
    roots = map(Path, spec.submodule_search_locations or ())
    return next((path for root in roots if (path := _inside(root, names[1:]))), None)


def _inside(root: Path, names: Sequence[str]) -> Path | None:
    base = root.joinpath(*names)
    places = (base.parent / f"{base.name}.py", base / "__init__.py")
    return next((place.resolve() for place in places if place.is_file()), None)


def _prefixes(module: str, folder: Path) -> Iterator[Path]:
    """The files under `folder` that importing `a.b.c` runs: of a, of a.b, of a.b.c."""
    names = module.split(".")
    for length in range(1, len(names) + 1):
        if path := _inside(folder, names[:length]):
            yield path


def _reach(path: Path, folder: Path, reached: dict[Path, None]) -> None:
    """Adds the file, and if it lies under `folder` what it imports from there."""
    if path in reached:
        return
    reached[path] = None
    if path.is_relative_to(folder):
        for module in _imports(path, folder):
            for part in _prefixes(module, folder):
                _reach(part, folder, reached)


def _imports(path: Path, folder: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"not valid Python: {error}", f"{path}:{line or 1}") from None
    package = path.relative_to(folder).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (".".join(filter(None, [module, alias.name])) for alias in node.names)
