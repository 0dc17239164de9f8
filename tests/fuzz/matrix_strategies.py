"""Matrices: right ones by their axes, and those with something wrong in a value or in the text."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import yaml
from bounds import JUNK, TEXT
from conftest import PROJECT
from hypothesis import strategies as st

MODEL = {
    "config": str(PROJECT / "matrices/demo/onestage.py"),
    "checkpoint": str(PROJECT / "matrices/demo/onestage.pth"),
}
MODULE = {
    "source": "module",
    "function": "sources.peaks:detector",
    "checkpoint": str(PROJECT / "matrices/sources/peaks.pth"),
    "classes": ["circle", "square", "triangle", "star"],
    "preprocess": {"mean": [123.675, 116.28, 103.53], "pad": 32},
}
SHAPES = {
    "fixed": {"opt": "160x160"},
    "wide": {"opt": "96x320"},
    "free": {"min": "1x3x96x96", "opt": "1x3x160x160", "max": "4x3x320x320"},
}
PRECISIONS = {
    "torch": ["fp32"],
    "null": ["fp32"],
    "onnxruntime": ["fp32", "fp16", "bf16", "int8"],
    "openvino": ["fp32", "fp16", "bf16", "int8"],
}

AXES = {
    "opsets": [11, 13, 17, 20],
    "shapes": list(SHAPES),
    "postprocess": ["graph", "host", "none"],
    "precisions": PRECISIONS["openvino"],
    "runtimes": list(PRECISIONS),
}


def some(words: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(words), min_size=1, max_size=3, unique=True)


def axes(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: some(AXES[name]) for name in names})


@st.composite
def right(draw: st.DrawFn) -> dict[str, Any]:
    """A matrix as its author means it; `cells` says what it must come to."""
    names = draw(some(["a", "b-1"]))
    models = {name: MODEL | draw(axes(list(AXES))) for name in names}
    if draw(st.booleans()):
        models["m"] = MODULE | draw(axes(["opsets", "shapes", "runtimes"]))
    rules = axes([name for name in AXES if name != "postprocess"]).filter(bool)
    matrix = {"name": "fuzz", "models": models, "shapes": SHAPES}
    matrix |= {
        "runtimes": draw(some(AXES["runtimes"])),
        "exclude": draw(st.lists(rules, max_size=2)),
    }
    matrix |= draw(axes(["opsets", "precisions", "postprocess"]))
    count = draw(st.integers(1, 100_000))
    matrix["dataset"] = {"type": "synthetic", "count": count, "size": 160}
    return matrix


def cells(matrix: dict[str, Any]) -> set[tuple[Any, ...]]:
    """(model, opset, shape, postprocess, precision, runtime) of every cell, by trying them all."""
    return {cell for name in matrix["models"] for cell in _cells_of(matrix, name)}


def _cells_of(matrix: dict[str, Any], name: str) -> Iterator[tuple[Any, ...]]:
    model, defaults = matrix["models"][name], {"opsets": [17], "precisions": ["fp32"]}
    defaults["postprocess"] = ["graph"]
    own = {axis: model.get(axis, matrix.get(axis, defaults.get(axis))) for axis in AXES}
    own["shapes"] = model.get("shapes", list(SHAPES))
    if "source" in model:
        own["postprocess"] = ["graph"]
    for values in itertools.product(*own.values()):
        opset, _, cut, precision, runtime = values
        if precision not in PRECISIONS[runtime]:
            continue
        said = {"opsets": None if runtime == "torch" else opset, "shapes": values[1]}
        said |= {"postprocess": "graph" if runtime == "null" else cut}
        said |= {"precisions": precision, "runtimes": runtime}
        if not any(
            all(said[a] in words for a, words in rule.items()) for rule in matrix["exclude"]
        ):
            yield (name, *said.values())


KEYS = (
    st.sampled_from(["models", "source", "opsets", "int8", "verify", "include", "dataset"]) | TEXT
)


@st.composite
def spoilt(draw: st.DrawFn) -> dict[str, Any]:
    """A right matrix with some values replaced, taken away or added."""
    matrix = copy.deepcopy(draw(right()))
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = matrix
        while draw(st.booleans()):
            inner = list(holder.values() if isinstance(holder, dict) else holder)
            inner = [value for value in inner if isinstance(value, (dict, list)) and value]
            if not inner:
                break
            holder = draw(st.sampled_from(inner))
        known = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if known and draw(st.booleans()):
            holder[draw(st.sampled_from(known))] = draw(JUNK)
        elif known and draw(st.booleans()):
            del holder[draw(st.sampled_from(known))]
        elif isinstance(holder, dict):
            holder[draw(KEYS)] = draw(JUNK)
        else:
            holder.append(draw(JUNK))
    return matrix


WORDS = ["!!int ''", "!!float ''", "!!bool x", "!!set {a}", "!!binary x", "!x", "&a", "*a"]
WORDS += ["<<: *a", "${X}", "${X:-y}", "${", "---", "...", ".inf", ".nan", "0x", "1:2:3"]
WORDS += ["\n  ", "- ", ": ", "? ", *"{}[]:-?|>'\"#%@`,\\~=\n\t\x00\x1b\x85\u2028\ufeff\ue000"]
PIECES = st.text(max_size=3) | st.sampled_from(WORDS)


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """The text of a right matrix with pieces put in, cut out, doubled and moved."""
    flow = draw(st.sampled_from([None, True, False]))
    text = yaml.safe_dump(draw(right()), default_flow_style=flow, sort_keys=False)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        at = draw(st.integers(0, len(text)))
        moved = text[start:end] if draw(st.booleans()) else draw(PIECES)
        rest = text[:start] + text[end:] if draw(st.booleans()) else text
        text = rest[:at] + moved + rest[at:]
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if data and draw(st.integers(0, 9)) == 0:
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


overrides = st.lists(
    st.builds(
        "{}={}".format,
        st.sampled_from(
            ["opsets", "dataset.count", "models.a.cfg_options.x", "models.a", "measure.x"]
        )
        | TEXT,
        st.builds("".join, st.lists(PIECES, max_size=4)) | JUNK.map(repr) | st.just("[17]"),
    ),
    min_size=1,
    max_size=3,
)
