"""Python modules as planning sees them: found, with all that they import, without importing any."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from itertools import accumulate
from pathlib import Path

from farm.errors import InputError


def code_parts(module: str, folder: Path) -> list[Path]:
    """Return the file of `package.module`, last, after all that it imports from `folder`.

    Found as Python would find it, `folder` first. Of an installed package only that one file.

    Raises:
        InputError: there is no such module, or one of the files is no Python.
    """
    path = find_module(module, folder)
    if path is None:
        raise InputError(f"module {module!r} is neither in {folder} nor installed")
    reached: dict[Path, None] = {}
    for part in _prefixes(module, folder):
        _reach(part, folder, reached)
    _reach(path, folder, reached)
    reached.pop(path)
    return [*reached, path]


def find_module(module: str, folder: Path | None = None) -> Path | None:
    """Return the file of a module, in `folder` or on Python's path, without importing any."""
    names = module.split(".")
    if not all(names) or names[0] == "__main__":  # that is whatever was started
        return None
    if folder and (own := _inside(folder, names)):
        return own
    spec = find_spec(names[0])
    if spec is None:
        return None
    if len(names) == 1:
        return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None
    roots = map(Path, spec.submodule_search_locations or ())
    return next((path for root in roots if (path := _inside(root, names[1:]))), None)


def find_spec(name: str) -> ModuleSpec | None:
    """Return where a top-level module would be imported from, also if it is imported already."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find and (spec := find(name, None)):
            return spec  # type: ignore[no-any-return]
    return None


def find_nested_spec(module: str, folder: Path | None = None) -> ModuleSpec | None:
    """Return where Python would import a module of any form from, without importing any.

    folder: where to look in place of Python's path.
    """
    head, *rest = module.split(".")
    spec = PathFinder.find_spec(head, [str(folder)]) if folder else find_spec(head)
    for name in rest:
        roots = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(name, list(roots)) if roots else None
    return spec


def _inside(root: Path, names: Sequence[str]) -> Path | None:
    base = root.joinpath(*names)
    places = (base.parent / f"{base.name}.py", base / "__init__.py")
    # A link is not followed: what it imports is looked for beside the link.
    return next((Path(os.path.abspath(place)) for place in places if place.is_file()), None)


def _prefixes(module: str, folder: Path) -> Iterator[Path]:
    """The files under `folder` that importing `a.b.c` runs: of a, of a.b, of a.b.c."""
    for names in accumulate([name] for name in module.split(".")):
        if path := _inside(folder, names):
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


def parsed(source: str | bytes, path: Path) -> ast.Module:
    """Parse a file of Python.

    Raises:
        InputError: it is no Python, or nested more deeply than Python can read.
    """
    try:
        return ast.parse(source, str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"not valid Python: {error}", f"{path}:{line or 1}") from None
    except (RecursionError, MemoryError):
        raise InputError("nested deeper than Python can read", str(path)) from None


def _imports(path: Path, folder: Path) -> Iterator[str]:
    tree = parsed(path.read_bytes(), path)
    package = path.relative_to(folder).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield module
            yield from (".".join(filter(None, [module, alias.name])) for alias in node.names)
