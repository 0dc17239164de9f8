"""The text of a first matrix, with comments that say what each line does and what to try next."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from farm.init.data import Data
    from farm.init.machine import Here
    from farm.init.shapes import Profile

_WIDTH = 88

_PRECISIONS = {
    "fp32": "full precision, whose boxes must be PyTorch's",
    "fp16": "half precision, which this machine's GPU computes faster",
    "bf16": "bfloat16, in which this CPU computes faster by OpenVINO",
}


@dataclass(frozen=True)
class First:
    """What a first matrix is written of.

    config, checkpoint: as the matrix names them. labels: classes to fill in where the order of the
    labels is not known yet; () where it is. output: the file.
    """

    name: str
    model: str
    config: str
    checkpoint: str
    allow_pickle: bool
    labels: tuple[str, ...]
    shapes: Mapping[str, Profile]
    data: Data
    here: Here
    output: Path


def text_of(first: First) -> str:
    """Return the matrix as YAML with comments."""
    return "\n".join(_lines(first)) + "\n"


def _lines(first: First) -> Iterator[str]:
    file = os.path.relpath(first.output)
    yield from _comment(
        "A first matrix, written by `farm init`. Every combination of its lists is a cell: an"
        " engine that is built, compared with PyTorch, evaluated and measured."
    )
    yield f"#   farm plan {file}    shows the cells and their work, and runs nothing"
    yield f"#   farm run {file}     does the work; run again, it goes on from where it was"
    yield f"#   farm best {' ' * len(file)}    picks the engine to ship, and says why"
    yield "# docs/matrix.md has all keys."
    yield f"name: {_scalar(first.name)}"
    yield ""
    yield from _model(first)
    yield ""
    yield "# 11 to 20. Runtimes differ in the opsets that they take, and so can the engines."
    yield "opsets: [17]"
    yield from _shapes(first)
    yield from _precisions(first.here)
    yield from _runtimes(first.here)
    yield from _dataset(first)
    yield ""
    yield "# Seconds for each engine, which is timed alone on the machine."
    yield "measure: {seconds: 1}"


def _model(first: First) -> Iterator[str]:
    yield "models:"
    yield f"  {_scalar(first.model)}:"
    yield f"    config: {_scalar(first.config)}"
    yield f"    checkpoint: {_scalar(first.checkpoint)}"
    if first.allow_pickle:
        yield "    allow_pickle: true  # loading it can run code: use only files that you trust"
    if first.labels:
        listed = ", ".join(map(_scalar, first.labels))
        yield "    # The order of the labels is that of the training annotations, which are not"
        yield "    # here. Write the classes in that order:"
        yield f"    # labels: [{listed}]"


def _shapes(first: First) -> Iterator[str]:
    yield ""
    yield "# Input sizes, height x width."
    for name, one in first.shapes.items():
        yield from _comment(f"{name}: {one.text}.")
    yield "shapes:"
    for name, one in first.shapes.items():
        ends = [("min", one.min), ("opt", one.opt), ("max", one.max)]
        sizes = ", ".join(f"{end}: {dims.h}x{dims.w}" for end, dims in ends if dims)
        yield f"  {name}: {{{sizes}}}"


def _precisions(here: Here) -> Iterator[str]:
    yield ""
    for one in here.precisions:
        yield from _comment(f"{one}: {_PRECISIONS[one]}.")
    yield f"precisions: [{', '.join(here.precisions)}]"
    yield from _comment(
        "int8 is often the fastest, and can cost AP. With `auto` the layers that harm most stay in"
        " fp32. Calibrate it with images that are not those of `dataset`:"
    )
    yield "# precisions: [fp32, int8]"
    yield "# int8: auto"
    yield "# calibration: {images: FOLDER, annotations: FILE.json, limit: 64}"


def _runtimes(here: Here) -> Iterator[str]:
    yield ""
    yield "# torch is PyTorch itself, to compare with."
    for one in here.missing:
        yield f"# {one.name} is not installed; to add it: {one.how}"
    yield f"runtimes: [{', '.join(here.runtimes)}]"
    if "bf16" in here.precisions and "onnxruntime" in here.runtimes:
        yield "# ONNX Runtime emulates bf16 on CPUs, which is slow: no such cells."
        yield "exclude:"
        yield "  - {runtime: onnxruntime, precision: bf16}"
    if here.accelerator:
        yield "targets:"
        yield "  cpu: {}"
        yield f"  {here.accelerator.lower()}: {{accelerator: {here.accelerator}}}"


def _dataset(first: First) -> Iterator[str]:
    data = first.data
    yield ""
    yield f"# {data.text}."
    yield "dataset:"
    for key, value in data.entry.items():
        shown = named(value, first.output) if isinstance(value, Path) else str(value)
        yield f"  {key}: {_scalar(shown)}"
    if data.limit:
        yield f"  limit: {data.limit}  # enough for a first look; remove it for final figures"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="#   ")


def named(path: Path, matrix: Path) -> str:
    """Return a path as a matrix names it: relative to its folder if both are in the current folder,
    so that they can be moved together; else absolute."""
    here = Path.cwd().resolve()
    if path.is_relative_to(here) and matrix.is_relative_to(here):
        return os.path.relpath(path, matrix.parent)
    return str(path)


def _scalar(text: str) -> str:
    """A text as a YAML value: in quotes where YAML would read it as another one."""
    plain = re.fullmatch(r"[A-Za-z_./][\w./-]*( [\w./-]+)*", text)
    words = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", "~"}
    return text if plain and text.lower() not in words else json.dumps(text, ensure_ascii=False)
