"""Tables as text: wrapped to the width of a terminal, and as wide as they are in a pipe.

There are no colours, and nothing in a cell can steer the terminal. rich does the layout.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from farm.terminal import plain

if TYPE_CHECKING:
    from rich.table import Table

_UNBOUNDED = 1 << 20
"""Columns that no line of ours has."""

_USUAL = 80
"""What a table in a pipe should fit; where it does not, its gaps are narrower."""

_LEAST_TEXT = 8
"""Texts are folded to no fewer columns; where that is too wide, the table is divided."""


def terminal_width() -> int | None:
    """Return the columns of the terminal that stdout is; None where it is a file or a pipe."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    numeric: Sequence[bool],
    width: int | None = None,
) -> str:
    """Lay out rows under their headings, which a line of dashes divides.

    numeric: the columns whose texts are aligned to the right, and never folded.
    width: the columns to fit, by default those of the terminal: with narrower gaps, else with the
    longest texts folded, else with the last columns in further tables, by the number of the row.
    In a pipe texts are not folded and tables not divided; gaps are narrower over 80 columns.
    """
    width = width or terminal_width()
    lines = [[plain(text) for text in row] for row in (headings, *rows)]
    widths = _natural_widths(lines)
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= (width or _USUAL) else 1
    folded = [
        own if right else min(own, _LEAST_TEXT) for own, right in zip(widths, numeric, strict=True)
    ]
    if width is not None and sum(folded) + len(folded) - 1 > width:
        return _divided(lines, numeric, width)
    if width is not None and sum(widths) + gap * (len(widths) - 1) > width:
        return _rendered(_table(lines, numeric, gap), width)
    return _unfolded(lines, numeric, widths, gap)


def _unfolded(
    lines: Sequence[Sequence[str]], numeric: Sequence[bool], widths: Sequence[int], gap: int
) -> str:
    """The table where it fits: rich takes seconds for the thousands of rows of a large sweep."""
    from rich.cells import cell_len

    def cell(text: str, width: int, right: bool) -> str:
        blanks = " " * (width - cell_len(text))
        return blanks + text if right else text + blanks

    rows = (lines[0], ["-" * width for width in widths], *lines[1:])
    cells = (map(cell, row, widths, numeric) for row in rows)
    return "\n".join((" " * gap).join(row).rstrip() for row in cells)


def _natural_widths(lines: Sequence[Sequence[str]]) -> list[int]:
    """The columns of a terminal that each column takes, when nothing is folded."""
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def _divided(lines: Sequence[Sequence[str]], numeric: Sequence[bool], width: int) -> str:
    """The table as several tables, each with as many columns as fit, after the row's number."""
    numbers = ["#", *map(str, range(1, len(lines)))]
    numbered = [[number, *line] for number, line in zip(numbers, lines, strict=True)]
    widths = _natural_widths(numbered)
    groups: list[list[int]] = []
    room = 0
    for column, own in enumerate(widths[1:], start=1):
        if room < own + 1 or not groups:
            groups.append([0])
            room = width - widths[0]
        groups[-1].append(column)
        room -= own + 1
    parts = [[[line[column] for column in group] for line in numbered] for group in groups]
    rights = [[True, *(numeric[column - 1] for column in group[1:])] for group in groups]
    tables = zip(parts, rights, strict=True)
    return "\n\n".join(_unfolded(part, right, _natural_widths(part), 1) for part, right in tables)


def fields(pairs: Iterable[tuple[str, str]], indent: int = 2) -> str:
    """Lay out names and values, a pair a line; a value may have several lines, and none is folded,
    so that a path can be copied."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in pairs:
        grid.add_row(Text(" " * indent + plain(name)), Text(plain(value, "\n")))
    return _rendered(grid, _UNBOUNDED)


def _table(lines: Sequence[Sequence[str]], numeric: Sequence[bool], gap: int) -> Table:
    """A table of the headings, a line of dashes and the rows."""
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for heading, right in zip(lines[0], numeric, strict=True):
        justify: Literal["left", "right"] = "right" if right else "left"
        made.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=right)
    made.add_row(*(Rule(characters="-") for _ in numeric))
    for row in lines[1:]:
        made.add_row(*map(Text, row))
    return made


def _rendered(made: Table, width: int) -> str:
    """The table as plain text, whatever variables of the environment ask for."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, height=25, color_system=None, force_jupyter=False).print(made)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))
