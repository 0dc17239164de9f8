"""Whether loading a model runs its user's code: its steps then have processes of their own.

That code may import modules under common names, replace functions or set variables of the
environment, which would change the next model that the same process loads.
"""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

from farm.errors import InputError
from farm.plan.content import code
from farm.plan.content.configs import config_parts, text_of
from farm.specs import AnyModel, Model, ModelFacts, ModuleModel

_HARMLESS = {"dict", "list", "tuple", "set", "range", "len", "int", "float", "str", "bool"}
_HARMLESS |= {"min", "max", "sum", "abs", "round", "sorted", "zip", "enumerate"}
"""Functions that a config may call and still consist of values alone."""

_CODE = (ast.Import, ast.ImportFrom, ast.Attribute, ast.FunctionDef, ast.ClassDef, ast.Lambda)
_BUILTINS = {*dir(builtins), "__builtins__", "__loader__", "__spec__"} - _HARMLESS
_BUILTINS -= {"__file__", "__name__", "Ellipsis", "NotImplemented"}


def runs_own_code(model: AnyModel, facts: ModelFacts | None) -> bool:
    """Return whether loading the model runs code of its user's.

    facts: the findings of `check`, which saw what the model uses; None before it has run.
    """
    if isinstance(model, ModuleModel):
        return True
    if not isinstance(model, Model):
        return False
    # Files that the farm itself looked for are no code.
    used = any(one.kind != "sought" for one in facts.used) if facts else False
    return used or model.allow_pickle or _is_code(Path(model.config.path))


def _is_code(config: Path) -> bool:
    """Return whether a config, or a base that it names, contains more than values."""
    try:
        return config.is_file() and any(map(_has_code, config_parts(config)))
    except InputError:  # the plan reports it
        return True


def _has_code(config: Path) -> bool:
    """Return whether one file contains more than values; mmcv runs files of Python."""
    if config.suffix != ".py":
        return False
    tree = code.parsed(text_of(config), config)
    return any(_may_do_more(node) for node in ast.walk(tree))


def _may_do_more(node: ast.AST) -> bool:
    """Return whether a node of the syntax tree may do more than make a value."""
    if isinstance(node, ast.Call):
        return not (isinstance(node.func, ast.Name) and node.func.id in _HARMLESS)
    if isinstance(node, ast.Name):
        return node.id in _BUILTINS
    return isinstance(node, _CODE)
