"""The modules of a package: a digest of each without comments and docstrings, and its imports."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from farm.files import jsonfile
from farm.plan.content.digests import cache_folder, remembered, write_cached


@dataclass(frozen=True)
class Module:
    """A source file of the farm. imports: the names of modules that it imports anywhere;
    at_import: those that it imports while it is imported itself, not within a function."""

    digest: str
    imports: tuple[str, ...]
    at_import: tuple[str, ...]


@cache
def read(package: Path) -> Mapping[str, Module]:
    """Every module of a package by its name. Parsed once per state of the sources: the result is
    kept in the user's cache, named by their digest."""
    paths = {_name(path, package): path for path in sorted(package.rglob("*.py"))}
    files = [str(path) for path in paths.values()]
    total = remembered("sources", files, lambda: _content(paths))
    path = cache_folder() / "code" / f"{total}.json"
    try:
        kept = jsonfile.read(path)
        return {
            name: Module(one["digest"], tuple(one["imports"]), tuple(one["at_import"]))
            for name, one in kept.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        modules = {name: module_in(path.read_bytes()) for name, path in paths.items()}
        write_cached(path, json.dumps({name: asdict(one) for name, one in modules.items()}))
        return modules


def _content(paths: Mapping[str, Path]) -> str:
    total = hashlib.sha256(b"2")  # the form of the cached file
    for name, path in paths.items():
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def module_in(source: bytes) -> Module:
    """Return the module that a source file in UTF-8 is."""
    tree = ast.parse(source)
    bare = without_comments(source.decode("utf-8"), tree)
    return Module(
        hashlib.sha256(bare.encode()).hexdigest(),
        tuple(dict.fromkeys(_imports(_running(tree, functions=True)))),
        tuple(dict.fromkeys(_imports(_running(tree, functions=False)))),
    )


def without_comments(source: str, tree: ast.Module) -> str:
    """The source's lines without comments, docstrings and blank lines; texts that are values stay
    to the last space."""
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    docstrings = set(_docstrings(tree))
    for row in (row for node in docstrings for row in _rows(node)):
        lines[row] = ""
    texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr))
    kept = {row for node in texts if node not in docstrings for row in _rows(node)[:-1]}
    return "\n".join(
        line if row in kept else line.rstrip()
        for row, line in enumerate(lines)
        if line.strip() or row in kept
    )


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    """Texts that stand alone: also those that describe the value above them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def _rows(node: ast.expr) -> range:
    """The places of its lines, counted from 0."""
    return range(node.lineno - 1, node.end_lineno or node.lineno)


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Of `from a import b`, `a.b`: a module, or a name in the module a."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _running(tree: ast.AST, functions: bool) -> Iterator[ast.AST]:
    """Yield the nodes that can run, without those for type checkers alone.

    functions: also those within functions.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not functions:
            continue
        found: Iterable[ast.AST] = [node]
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            found = node.orelse
        for one in found:
            yield one
            yield from _running(one, functions)
