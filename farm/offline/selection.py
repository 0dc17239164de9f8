"""Choose cells by the values of their axes, for `farm pack` and `farm run-pack`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, TypeVar

from farm.errors import InputError, nearest
from farm.plan import PlannedCell
from farm.specs import Cell
from farm.units import format_bytes

AXES = {
    "model": "model",
    "opset": "opset",
    "shape": "shape",
    "postprocess": "postprocess",
    "precision": "precision",
    "workspace": "workspace_bytes",
    "runtime": "runtime",
    "target": "target",
}
"""The options, and the field of a cell that each one selects by."""

AnyCell = TypeVar("AnyCell", Cell, PlannedCell)


def add_cell_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, `--runtime` and so on, each of which may be repeated."""
    group = parser.add_argument_group(
        "cells", "select cells by these values; each option may be repeated"
    )
    for axis in AXES:
        group.add_argument(f"--{axis}", action="append", metavar="VALUE")


def select_cells(cells: Sequence[AnyCell], options: argparse.Namespace) -> tuple[AnyCell, ...]:
    """Return the cells that have the values of the options.

    Raises:
        InputError: no cell has one of the values.
    """
    for axis, field in AXES.items():
        wanted = getattr(options, axis) or []
        known = {_text(axis, getattr(_cell(one), field)) for one in cells}
        for value in wanted:
            if value not in known:
                values = ", ".join(sorted(known))
                hint = nearest(value, known) or f"; there are {values}"
                raise InputError(f"no cell has {axis} {value!r}{hint}", f"--{axis}")
        if wanted:
            cells = [one for one in cells if _text(axis, getattr(_cell(one), field)) in wanted]
    return tuple(cells)


def _cell(one: Cell | PlannedCell) -> Cell:
    return one.cell if isinstance(one, PlannedCell) else one


def _text(axis: str, value: Any) -> str:
    if value is None:
        return "none"
    return format_bytes(value) if axis == "workspace" else str(value)
