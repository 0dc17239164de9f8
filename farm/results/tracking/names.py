"""Names of runs: what differs between the cells of a sweep, told apart by 20 characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from farm.units import format_bytes

if TYPE_CHECKING:
    from farm.results.columns import Row

SHOWN = 20
"""The first characters of a name, which MLflow's tables show."""

_SHORT = {
    "onnxruntime_tensorrt": "ort-trt",
    "onnxruntime_cuda": "ort-cuda",
    "onnxruntime": "ort",
    "openvino": "ov",
    "tensorrt_rtx": "rtx",
    "tensorrt": "trt",
}
"""Runtimes as people write them."""

_TEXTS: dict[str, Callable[[Any], str]] = {
    "model": str,
    "runtime": lambda value: _short_runtime(str(value)),
    "precision": str,
    "opset": lambda value: f"op{value}",
    "shape": str,
    "postprocess": str,
    "workspace_bytes": format_bytes,
    "target": str,
}
"""The axes, in the order in which a name has them, and how it writes their values."""


def run_names(rows: Sequence[Row]) -> dict[str, str]:
    """Return the name of each cell's run: the values of the axes that differ in the sweep.

    Where these are too long for 20 characters to tell cells apart, each value is cut to as many
    characters as that needs; where nothing helps, names begin with the number of the cell.
    """
    columns = {axis: [_text(axis, row.get(axis)) for row in rows] for axis in _TEXTS}
    columns = {axis: texts for axis, texts in columns.items() if len(set(texts)) > 1}
    cells = [row["cell"] for row in rows]
    if not columns:
        return dict(zip(cells, cells, strict=True))
    longest = max(len(text) for texts in columns.values() for text in texts)
    for most in (longest, *range(min(longest, SHOWN) - 1, 0, -1)):
        cut = {axis: _cut(texts, most) for axis, texts in columns.items()}
        values = zip(cells, zip(*cut.values(), strict=True), strict=True)
        names = [" ".join(filter(None, one)) or cell for cell, one in values]
        if len({name[:SHOWN] for name in names}) == len(set(cells)):
            return dict(zip(cells, names, strict=True))
    width = len(str(len(cells)))
    return {cell: f"{number:0{width}} {cell}" for number, cell in enumerate(cells, 1)}


def _text(axis: str, value: Any) -> str:
    return "" if value is None else _TEXTS[axis](value)


def _short_runtime(name: str) -> str:
    base, at, release = name.partition("@")
    return f"{_SHORT.get(base, base)}{at}{release}"


def _cut(texts: Sequence[str], most: int) -> list[str]:
    """Cut texts to so many characters, or to more where they would be the same then. What all begin
    with, up to the end of a word, is left out of long ones."""
    distinct = set(texts)
    if max(map(len, distinct)) <= most:
        return [*texts]
    pairs = zip(min(distinct), max(distinct), strict=False)
    alike = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    same = re.sub(r"[^\W_]*$", "", alike)
    found = {text: text[len(same) :] for text in distinct}
    length = most
    while len({text[:length] for text in found.values()}) < len(distinct):
        length += 1
    return [found[text][:length] for text in texts]
