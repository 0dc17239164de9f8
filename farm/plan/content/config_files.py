"""Config files as planning and mmdet's reader both see them: where they lie, of which version."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from farm.errors import InputError

_OF_3 = ("data_preprocessor", "default_scope", "optim_wrapper", "test_dataloader", "test_evaluator")

Reach = Literal["beside", "above"]
"""beside: also in the folder of the config. above: also in the folders above that one."""


def refused(sign: str, where: str) -> InputError:
    """Return the error of a config of MMDetection 3. sign: by what it is recognised."""
    return InputError(
        f"this is a config of MMDetection 3 ({sign}); the farm runs MMDetection 2.x: take the"
        " config of the same model from MMDetection's branch 2.x, and a checkpoint of that",
        where,
    )


def refuse_text(text: str, where: str) -> None:
    """Refuse the text of a config that only MMDetection 3 can read.

    A text that is no Python is accepted here.

    Raises:
        InputError: it has a sign of MMDetection 3; names its line.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in tree.body:
        if sign := _sign(node):
            raise refused(sign, f"{where}:{node.lineno}")


def _sign(node: ast.stmt) -> str:
    if isinstance(node, ast.With):
        bases = [ast.unparse(item.context_expr) for item in node.items]
        return "`with read_base()`" if any("read_base" in base for base in bases) else ""
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mmengine":
        return "it imports mmengine"
    if isinstance(node, ast.Assign) and any(ast.unparse(to) == "_base_" for to in node.targets):
        texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
        scoped = [text for text in texts if isinstance(text, str) and "::" in text]
        return f"its `_base_` is {scoped[0]!r}" if scoped else ""
    return ""


def refuse_values(config: Mapping[str, Any], where: str) -> None:
    """Refuse a merged config with settings of MMDetection 3 in place of 2's.

    Raises:
        InputError: it has such a setting; names it.
    """
    model, data = config.get("model"), config.get("data")
    if isinstance(model, Mapping) and "data_preprocessor" in model:
        raise refused("its model has a `data_preprocessor`", where)
    signs = [f"`{name}`" for name in _OF_3 if name in config]
    if isinstance(model, Mapping) and str(model.get("type")).startswith("mmdet."):
        signs.append(f"its model is {model['type']!r}")
    if signs and not (isinstance(data, Mapping) and data.get("test")):
        raise refused(f"it has {' and '.join(signs)}, and no `data.test`", where)


def candidates(name: str, folder: Path, reach: Reach) -> Iterator[Path]:
    """Yield the paths at which a file is looked for, in this order, from the current folder on.

    folder: the config's.
    """
    folder = folder.absolute()
    others = (folder, *folder.parents) if reach == "above" else (folder,)
    yield from dict.fromkeys(one / name for one in (Path.cwd(), *others))


def first(name: str, folder: Path, reach: Reach) -> Path | None:
    """The first of them that is a file."""
    return next((one for one in candidates(name, folder, reach) if os.path.isfile(one)), None)
