"""The command-line options of `farm pack`, `farm run-pack` and `farm import`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from farm.offline.selection import add_cell_arguments
from farm.run import add_sweep_arguments, minutes
from farm.units import parse_bytes

LEAST_PART = 1 << 20

Command = Callable[[str, object, str], argparse.ArgumentParser]


def add_commands(command: Command) -> None:
    """Add the three commands, whose parsers `command` makes."""
    _add_pack(command("pack", _pack, "pack the rest of a sweep for a machine without network"))
    _add_run_pack(
        command("run-pack", _run_pack, "run the steps of a pack and write a file of records")
    )
    _add_import(command("import", _import, "import records that another machine wrote"))


def _add_pack(parser: argparse.ArgumentParser) -> None:
    add_sweep_arguments(parser)
    parser.add_argument(
        "--output", "-o", type=Path, metavar="FILE",
        help="the archive to write (default: NAME.pack.tar.gz, by the matrix's name)",
    )  # fmt: skip
    parser.add_argument(
        "--part-size", type=_part_size, metavar="SIZE",
        help="split the archive into parts of at most this size, e.g. 60MiB",
    )  # fmt: skip
    add_cell_arguments(parser)


def _add_run_pack(parser: argparse.ArgumentParser) -> None:
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
        "--step-minutes", type=minutes, default=10,
        help="stop a step that takes longer (default: 10)",
    )  # fmt: skip
    parser.add_argument(
        "--retry-failed", action="store_true", help="run steps with recorded failures again"
    )
    add_cell_arguments(parser)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", type=Path, help="a file of records, or a folder of its files")
    parser.add_argument("--results", metavar="DIR", help="the folder of results (default: results)")
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
