"""Whether loading a model runs its user's code: then its steps have processes of their own.

What that code leaves behind (modules under a common name, replaced functions, variables of the
environment) would otherwise change the next model that the same process loads.
"""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

from farm.errors import InputError
from farm.plan import code
from farm.plan.configs import config_parts, text_of
from farm.specs import AnyModel, Model, ModelFacts, ModuleModel

_HARMLESS = {"dict", "list", "tuple", "set", "range", "len", "int", "float", "str", "bool"}
_HARMLESS |= {"min", "max", "sum", "abs", "round", "sorted", "zip", "enumerate"}
"""Functions with which a config is still nothing but values."""

_CODE = (ast.Import, ast.ImportFrom, ast.Attribute, ast.FunctionDef, ast.ClassDef, ast.Lambda)
_BUILTINS = {*dir(builtins), "__builtins__", "__loader__", "__spec__"} - _HARMLESS
_BUILTINS -= {"__file__", "__name__", "Ellipsis", "NotImplemented"}


def runs_own_code(model: AnyModel, facts: ModelFacts | None) -> bool:
    """facts: of `check`, which saw what the model uses; None before that."""
    if isinstance(model, ModuleModel):
        return True
    if not isinstance(model, Model):
        return False
    # Files that the farm itself looked for are no code.
    used = any(one.kind != "sought" for one in facts.used) if facts else False
    return used or model.allow_pickle or _is_code(Path(model.config.path))


def _is_code(config: Path) -> bool:
    """Whether a config, or a base that it writes out, is more than values."""
    try:
        return config.is_file() and any(map(_has_code, config_parts(config)))
    except InputError:  # the plan names it
        return True


def _has_code(config: Path) -> bool:
    """mmcv runs files of Python."""
    if config.suffix != ".py":
        return False
    tree = code.parsed(text_of(config), config)
    return any(_may_do_more(node) for node in ast.walk(tree))


def _may_do_more(node: ast.AST) -> bool:
    """Than make a value."""
    if isinstance(node, ast.Call):
        return not (isinstance(node.func, ast.Name) and node.func.id in _HARMLESS)
    if isinstance(node, ast.Name):
        return node.id in _BUILTINS
    return isinstance(node, _CODE)
