"""Configs as planning sees them: found, and digested with their literal bases, without running any.

What a config reads in any other way is found by the stage `check`; see `dependencies`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
from pathlib import Path

from farm.errors import InputError
from farm.files import expanded
from farm.plan.content import code, config_files
from farm.specs import File

_MOST_READS = 1000
"""mmcv reads a base once for every time that it is named, also by other bases."""

_MOST_LEVELS = 100


def find_config(name: str, folder: Path) -> Path | None:
    """Return the path of a config: a file, from `folder` where relative, or one that mmdet ships.

    A link is not followed: mmcv looks for the bases of a config beside the link.
    """
    own = Path(os.path.abspath(expanded(name, folder)))
    if own.is_file():
        return own
    # find_spec does not import the package: planning stays light, and works without mmdet.
    spec = importlib.util.find_spec("mmdet")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        shipped = Path(root) / ".mim" / "configs" / name
        if shipped.is_file():
            return Path(os.path.abspath(shipped))
    return None


def config_file(name: str, folder: Path) -> File:
    """Return a config, with the bases that it names as literals in one digest.

    Raises:
        InputError: it does not exist, or as `config_parts`.
    """
    path = find_config(name, folder)
    if path is None:
        raise InputError(
            f"config {name!r} is neither a file (looked at {folder / name}) "
            "nor a config that the installed mmdet ships"
        )
    total = hashlib.sha256()
    for part in config_parts(path):
        total.update(part.read_bytes() + b"\0")
    return File(str(path), total.hexdigest())


def config_parts(path: Path) -> list[Path]:
    """Return the config and the bases that it names as literals, and theirs, each once.

    Raises:
        InputError: a base does not exist or is among its own bases, there are too many, or a file
            is no UTF-8 text, no Python, or a config of MMDetection 3.
    """
    bases: dict[Path, list[Path]] = {}
    reads = _reads(path, (), bases, {})
    if reads > _MOST_READS:
        raise InputError(
            f"mmcv would read {reads} bases, since it reads a base anew wherever one is named; "
            f"expected at most {_MOST_READS}: name each base once",
            str(path),
        )
    return list(bases)


def _reads(
    path: Path, above: tuple[Path, ...], bases: dict[Path, list[Path]], known: dict[Path, int]
) -> int:
    """Count the files that mmcv reads for this one; adds the bases of each in reading order."""
    if path in above:
        raise InputError(f"config {path} is its own _base_")
    if len(above) > _MOST_LEVELS:
        raise InputError(f"its bases have more than {_MOST_LEVELS} levels", str(above[0]))
    if path not in known:
        if not os.path.isfile(path):
            raise InputError(f"config {above[-1]} has a _base_ that is not there: {path}")
        bases[path] = _bases(path)
        known[path] = 1 + sum(_reads(base, (*above, path), bases, known) for base in bases[path])
    return known[path]


def _bases(path: Path) -> list[Path]:
    """Return the paths in `_base_`, where it is set once to literals.

    Others are found when the config is run.
    """
    if path.suffix != ".py":
        return []
    text = text_of(path)
    config_files.refuse_text(text, str(path))
    return [
        Path(os.path.abspath(os.path.join(path.parent, base)))
        for base in _literal_bases(code.parsed(text, path))
    ]


def _literal_bases(tree: ast.Module) -> list[str]:
    stored = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == "_base_" and isinstance(node.ctx, ast.Store)
    ]
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, ast.Assign | ast.AnnAssign) and stored == [target] and node.value:
            return _strings(node.value)
    return []


def _strings(node: ast.expr) -> list[str]:
    try:
        found = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return []
    found = [found] if isinstance(found, str) else found
    fits = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return found if fits else []


def text_of(path: Path) -> str:
    """Return the text of a config with `{{ fileDirname }}` and the like filled in as mmcv does.

    Raises:
        InputError: it is no UTF-8 text.
    """
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8, which mmcv reads configs as: {error}", str(path)) from None
    names = {
        "fileDirname": str(path.parent),
        "fileBasename": path.name,
        "fileBasenameNoExtension": path.stem,
        "fileExtname": path.suffix,
    }
    for name, value in names.items():
        text = re.sub(r"\{\{\s*" + name + r"\s*\}\}", value.replace("\\", "/"), text)
    return text
