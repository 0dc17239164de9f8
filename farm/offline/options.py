"""The options of `farm pack`, `farm run-pack` and `farm import`, and the cells they select."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from farm.errors import InputError, nearest, shown
from farm.parsing import parse_bytes, parse_seconds
from farm.plan import PlannedCell
from farm.plan.steps import STAGES
from farm.run import PLACE, add_sweep_arguments, minutes
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

LEAST_PART = 1 << 20


def add_cell_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--model`, `--runtime` and so on, each of which may be repeated."""
    group = parser.add_argument_group(
        "cells", "select cells by these values; each option may be repeated"
    )
    for axis in AXES:
        text = f"only cells of this {axis} (default: of all)"
        group.add_argument(f"--{axis}", action="append", metavar="VALUE", help=text)


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


def add_pack(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm pack`."""
    parser.set_defaults(command=_pack)
    add_sweep_arguments(parser)
    parser.add_argument(
        "--output", "-o", type=Path, metavar="FILE",
        help="the archive to write (default: NAME.pack.tar.gz, by the matrix's name)",
    )  # fmt: skip
    parser.add_argument(
        "--part-size", type=_part_size, metavar="SIZE",
        help="split the archive into parts of at most this size, e.g. 60MiB (default: one file)",
    )  # fmt: skip
    add_cell_arguments(parser)


def add_run_pack(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm run-pack`."""
    parser.set_defaults(command=_run_pack)
    parser.add_argument(
        "pack", type=Path, nargs="+", help="a pack, or a part of one (parts beside it are found)"
    )
    parser.add_argument("--results", metavar="DIR", help="the folder of results (default: results)")
    parser.add_argument(
        "--records", type=Path, metavar="FILE",
        help="the file of records to write (default: packs/NAME.records.tar.gz in the results)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes",
        type=minutes,
        default=60,
        help="stop after so many minutes; a later run continues (default: 60)",
    )
    parser.add_argument(
        "--limit", type=_limit, action="append", default=[], metavar="STAGE=TIME",
        help="stop a step of this stage that takes longer, e.g. build=20m (default: the matrix's)",
    )  # fmt: skip
    parser.add_argument(
        "--retry-failed", action="store_true", help="run steps with recorded failures again"
    )
    add_cell_arguments(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm import`."""
    parser.set_defaults(command=_import)
    parser.add_argument("records", type=Path, help="a file of records, or a folder of its files")
    parser.add_argument("--results", metavar="PLACE", help=PLACE)
    parser.add_argument("--no-mlflow", action="store_true", help="write the leaderboard only")


def _part_size(text: str) -> int:
    try:
        size = parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if size < LEAST_PART:
        raise argparse.ArgumentTypeError(f"{text} is too small; a part has at least 1MiB")
    return size


def _pack(options: argparse.Namespace) -> int:
    from farm.offline.pack import pack

    return pack(options)


def _run_pack(options: argparse.Namespace) -> int:
    from farm.offline.run import run_pack

    return run_pack(options)


def _import(options: argparse.Namespace) -> int:
    from farm.offline.importing import run

    return run(options)


def _limit(text: str) -> tuple[str, float]:
    """Raises ArgumentTypeError for what is no limit."""
    stage, _, time = text.partition("=")
    try:
        return _known_stage(stage), parse_seconds(time)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _known_stage(name: str) -> str:
    if name not in STAGES:
        raise ValueError(f"unknown stage {shown(name)}{nearest(name, STAGES)}")
    return name
