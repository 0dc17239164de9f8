"""The farm's own code in the keys: a digest of all that a stage runs, without its comments.

A step's result depends on the code of its stage and on every module of the farm that this imports.
So their digest stands in the step's key: whoever changes or upgrades the farm does again what the
change can reach, and keeps all else. Comments, docstrings and blank lines change no digest.
"""

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
from typing import Any

from farm import catalog
from farm.files import jsonfile
from farm.plan.content.code import find_spec
from farm.plan.content.digests import cache_folder, remembered, write_cached

PACKAGE = Path(__file__).resolve().parents[2]

NEUTRAL = (
    *("farm.catalog", "farm.config", "farm.errors", "farm.failures", "farm.parts", "farm.plan"),
    *("farm.store", "farm.datasets.base", "farm.runtimes.base", "farm.specs"),
)
"""Modules and packages that no digest covers: inputs, names and what a plan looks at are in keys by
their values; errors and the store decide how results are reported and where they lie."""

_COUNTED = ("farm.specs.sizes", "farm.specs.pipeline", "farm.plan.content.config_files")
"""Modules of those packages that decide results all the same."""


@dataclass(frozen=True)
class Module:
    """A source file of the farm. imports: the names of modules that it imports anywhere;
    at_import: those that it imports while it is imported itself, not within a function."""

    digest: str
    imports: tuple[str, ...]
    at_import: tuple[str, ...]


def code_of(stage: str, values: Any) -> str:
    """Return the digest of the code that turns a stage's inputs into its result."""
    engine, dataset = getattr(values, "engine", None), getattr(values, "dataset", None)
    model = getattr(engine or values, "model", None)
    options = getattr(engine or values, "options", None)
    return code_for(
        stage,
        pipeline=getattr(values, "pipeline", None),
        dataset=dataset.type if dataset is not None else None,
        source=model.source if model is not None else None,
        runtime=options.runtime if options is not None else None,
    )


def code_for(
    stage: str,
    *,
    pipeline: str | None = None,
    dataset: str | None = None,
    source: str | None = None,
    runtime: str | None = None,
) -> str:
    """Return `code_of` by what chooses modules, which the stage finds by name at run time.

    pipeline: by which it prepares images. dataset: the type of data set that it opens. source: of
    the model that it loads. runtime: of the engine that it builds or runs.
    """
    roots = [f"farm.stages.{stage}"]
    if stage in catalog.EXTRA_STAGES:
        roots.append(catalog.EXTRA_STAGES[stage].module)
    if pipeline is not None:
        roots += [catalog.preparer_of(pipeline).module, "farm.specs.sizes"]
    if dataset is not None:
        roots.append(catalog.DATASETS[dataset].module)
    if source is not None:
        roots.append(catalog.SOURCES[source].module)
    if source is not None and stage == "check":  # it tries the pipeline that it finds
        roots += [one.module for one in catalog.preparers_of(source)]
    if runtime is not None:
        roots.append(catalog.RUNTIMES[runtime].module)
    return digest(tuple(inner for root in roots for inner in _in_farm(root)))


def _in_farm(root: str) -> tuple[str, ...]:
    """The root, or for a module of another package the farm's modules that it imports; its own
    code is in the key by its package."""
    return (root,) if _is_ours(root) else _imported_by(root.partition(".")[0])


def _is_ours(module: str) -> bool:
    return module.startswith(f"{PACKAGE.name}.")


@cache
def _imported_by(package: str) -> tuple[str, ...]:
    """The farm's modules that another package's files name in their imports."""
    spec = find_spec(package)
    origin = Path(spec.origin) if spec and spec.origin else None
    files = origin.parent.rglob("*.py") if origin and origin.name == "__init__.py" else [origin]
    read = (_module(path.read_bytes()) for path in sorted(filter(None, files)))
    named = {name for module in read for name in module.imports}
    return tuple(sorted(filter(_is_ours, named)))


@cache
def digest(roots: tuple[str, ...], package: Path = PACKAGE, but: tuple[str, ...] = ()) -> str:
    """sha256 of the modules `roots` (`farm.stages.export`) and of all that they import; `but`:
    modules to leave out, with what only they import."""
    modules = {name: module for name, module in read(package).items() if name not in but}
    total = hashlib.sha256()
    for name in sorted(closure(roots, modules)):
        total.update(f"{name}\0{modules[name].digest}\n".encode())
    return total.hexdigest()


def closure(roots: Iterable[str], modules: Mapping[str, Module]) -> set[str]:
    """The names of all modules that `roots` run. Of a package on the way to a module (`a` and
    `a.b` of `a.b.c`), only what it imports at once counts."""
    reached: dict[str, bool] = {}
    waiting = [(root, True) for root in roots]
    while waiting:
        name, whole = waiting.pop()
        name = _module_of(name, modules)
        if not name or _is_neutral(name) or reached.get(name) in (True, whole):
            continue
        reached[name] = whole
        module = modules[name]
        waiting += [(other, True) for other in (module.imports if whole else module.at_import)]
        parts = name.split(".")
        # Without the outermost package, which holds the version and nothing that runs.
        waiting += [(".".join(parts[:length]), False) for length in range(2, len(parts))]
    return set(reached)


def _module_of(name: str, modules: Mapping[str, Module]) -> str:
    """The module that an imported name is, or that it is in; empty for another package's."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


@cache
def _is_neutral(name: str) -> bool:
    within = (name == one or name.startswith(f"{one}.") for one in NEUTRAL)
    probes = name.endswith(".probe")  # of `farm doctor`
    return probes or (name not in _COUNTED and any(within))


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
        modules = {name: _module(path.read_bytes()) for name, path in paths.items()}
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
def _module(source: bytes) -> Module:
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
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from (
                inner for other in node.orelse for inner in (other, *_running(other, functions))
            )
            continue
        yield node
        yield from _running(node, functions)
