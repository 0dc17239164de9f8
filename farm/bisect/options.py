"""The arguments of `farm bisect`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from farm.errors import InputError
from farm.parsing import number, parse_bytes
from farm.run import PLACE

if TYPE_CHECKING:
    from farm.bisect.releases import Versions


def add_command(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `farm bisect`."""
    add = parser.add_argument
    add("cell", help="its name, as `farm leaderboard --format csv` shows it")
    add("--sweep", help="where several sweeps have a cell of that name")
    add(
        "--against",
        choices=("pytorch", "fp32"),
        help="compare only the fp32 file with PyTorch, or only the engine with the fp32 file"
        " (default: both)",
    )
    add(
        "--versions",
        type=_versions,
        metavar="RUNTIME==RELEASE,...",
        help="try these releases of the cell's runtime against the fp32 file, each in an"
        " environment of its own, up to the first that leaves it: openvino==2025.2,2026.1",
    )
    add(
        "--tolerance",
        type=_tolerance,
        metavar="FRACTION",
        help="search even where the outputs agree: how far a value may be off, over its largest"
        " value (default: the matrix's max_rel_diff for the cell's precision, and a search only"
        " where the outputs differ)",
    )
    add(
        "--images",
        type=_whole,
        default=8,
        metavar="N",
        help="how many of the prepared images are compared (default: 8)",
    )
    add(
        "--memory",
        type=_bytes,
        default="256MiB",
        metavar="SIZE",
        help="how much of values is read out at once, on each side (default: 256MiB)",
    )
    add("--json", action="store_true", help="print JSON, for programs")
    add("--results", metavar="PLACE", help=PLACE)
    parser.set_defaults(command=_bisect, in_child=True)


def _bisect(options: argparse.Namespace) -> int:
    from farm.bisect.cells import find
    from farm.bisect.command import bisect
    from farm.bisect.comparisons import Choices
    from farm.cli.results import results_of

    if options.versions and options.against == "pytorch":
        raise InputError("releases are compared with the fp32 file", "--against pytorch")
    results = results_of(options.results, only_read=True)
    cell = find(options.cell, results, options.sweep, options.images)
    choices = Choices(options.against, options.tolerance, options.memory)
    return bisect(cell, choices, options.versions, options.json)


def _versions(text: str) -> Versions:
    from farm.bisect.releases import Versions

    try:
        return Versions.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _tolerance(text: str) -> float:
    value = float(number(text))
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is no tolerance; expected a number above 0")
    return value


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text} is no number of images; expected 1 or more")
    return int(text)


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
